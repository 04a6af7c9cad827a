"""Verdicts on claims."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import isnan, nan
from typing import Literal

from msplora_analysis.statistics.outcome import Outcome, Question, numbers_text
from msplora_analysis.statistics.power import least_pairs

Answer = Literal["borne out", "contradicted", "not decided", "cannot tell"]
_FIRST_STEP: dict[Question, str] = {
    "about these tasks": "train both methods on the same tasks and seeds",
    "about tasks like these": "train at least two tasks",
    "about these layers": "train a model with more layers",
}
"""What to train if there is too little data for a test."""
_SAME = "check that the runs differ: equal differences on {n} {of} have no spread"
MOST_NEEDED = 999
"""A larger n is no advice."""
_LEAST_TASKS = 2
"""One task has no spread between tasks."""


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, with the numbers behind the answer.

    Args:
        verdict: the answer. `not decided`: the test is not significant. `cannot tell`: the data do not test the claim.
        question: the scope of the answer: these tasks, tasks like these, these layers.
        n: number of independent observations.
        of: what they are: pairs of runs, tasks, layers.
        effect: positive if it agrees with the claim.
        unit: of the effect.
        interval: 95% interval of the effect, if there is one.
        p: two-sided; corrected if the test belongs to a family.
        least_p: the least p that the test can give for these data.
        null: values of the null model, in words.
        reason: the test, values left out, or why it cannot be tested, in words.
        next_step: what to train to decide it.
        step: the deciding step, for a claim of several steps.
        needed: for `not decided`, the n that would decide an effect of this size; for `cannot tell`, the least n that
            can be tested; None if unknown.
        p_uncorrected: p of the test without correction.

    Example:
        >>> print(Verdict("cannot tell", reason="ranks 8/4/2 differ", next_step="train --ranks 8,8,8"))
        cannot tell: ranks 8/4/2 differ; next: train --ranks 8,8,8
    """

    verdict: Answer
    question: str = ""
    n: int = 0
    of: str = ""
    effect: float = nan
    unit: str = ""
    interval: tuple[float, float] | None = None
    p: float = nan
    least_p: float = nan
    null: str = ""
    reason: str = ""
    next_step: str = ""
    step: str = ""
    needed: int | None = None
    p_uncorrected: float = nan

    def __str__(self) -> str:
        head = f"{self.verdict} {self.question}".strip()
        return f"{head}: {'; '.join(self._facts())}"

    def _repr_html_(self) -> str:
        """Return the answer and a list of facts, for notebooks."""
        facts = "".join(f"<li>{escape(fact)}</li>" for fact in self._facts())
        return f"<p><b>{escape(self.verdict)}</b> {escape(self.question)}</p><ul>{facts}</ul>"

    def _facts(self) -> list[str]:
        numbers = ""
        if not isnan(self.effect):
            numbers = numbers_text(self.effect, self.interval, self.p, self.least_p, self.unit)
        facts = [
            numbers,
            f"n = {self.n} {self.of}".rstrip() if self.n else "",
            f"null: {self.null}" if self.null else "",
            f"decided by: {self.step}" if self.step else "",
            self.reason,
            f"next: {self.next_step}" if self.next_step else "",
        ]
        return [fact for fact in facts if fact]


def verdict(outcome: Outcome, *, unit: str = "", null: str = "", level: float = 0.05) -> Verdict:
    """Return the verdict that a test's outcome supports.

    `borne out` or `contradicted`, by the sign of the effect, if p (corrected if the test belongs to a family) is at
    most the level; `not decided` if it is above, with the number of pairs or tasks that would decide; `cannot tell`
    without p value.

    Args:
        outcome: of a test whose effect is positive if it agrees with the claim.
        unit: of the effect.
        null: values of the null model, in words.
        level: of significance.

    Returns:
        The verdict.

    Example:
        >>> from msplora_analysis import sign_flip_test
        >>> print(verdict(sign_flip_test([0.3, 0.1, 0.2]), unit="nats"))
        not decided about these tasks: effect +0.2 nats, p 0.25, least p 0.25; n = 3 pairs of runs;
        exact sign-flip test, 8 arrangements; next: n = 3 cannot reach p 0.05: train 6 pairs of runs or more
    """
    p = outcome.decisive_p
    family = f"p corrected over {outcome.family}" if outcome.family else ""
    answer: Answer
    needed = None
    if isnan(p):
        answer, next_step = "cannot tell", _first_step(outcome)
        needed = _LEAST_TASKS if _lacks_tasks(outcome) else None
    elif p > level:
        answer, needed = "not decided", _needed(outcome, level)
        next_step = _next_step(outcome, level, needed)
    else:
        answer, next_step = ("borne out" if outcome.effect > 0 else "contradicted"), ""
    return Verdict(
        verdict=answer,
        question=outcome.question,
        n=outcome.n,
        of=outcome.of,
        effect=outcome.effect,
        unit=unit,
        interval=outcome.interval,
        p=p,
        p_uncorrected=outcome.p,
        least_p=outcome.least_p,
        null=null,
        reason="; ".join(filter(None, (outcome.test, family, outcome.note))),
        next_step=next_step,
        needed=needed,
    )


def _first_step(outcome: Outcome) -> str:
    """What to do if there is no p value, in words."""
    tested = outcome.question == "about tasks like these" and not _lacks_tasks(outcome)
    return _SAME.format(n=outcome.n, of=outcome.of) if tested else _FIRST_STEP[outcome.question]


def _lacks_tasks(outcome: Outcome) -> bool:
    return outcome.question == "about tasks like these" and outcome.n < _LEAST_TASKS


def _needed(outcome: Outcome, level: float) -> int | None:
    """The number of observations that would decide."""
    if outcome.of == "layers" or (outcome.needed is None and not outcome.least_p > level):
        return None
    least = least_pairs(level) if outcome.least_p > level else 0
    return max(outcome.needed or 0, least, outcome.n + 1)


def several(of: str) -> str:
    """Return what n counts, for an n above 1.

    Example:
        >>> several("pair of runs"), several("tasks")
        ('pairs of runs', 'tasks')
    """
    return {"run": "runs", "pair of runs": "pairs of runs", "task": "tasks"}.get(of, of)


def _next_step(outcome: Outcome, level: float, needed: int | None) -> str:
    """What to do if the test is not significant, in words."""
    of = several(outcome.of)
    if outcome.of == "layers":
        return "the number of layers is fixed: compare runs, or test a deeper model"
    if outcome.least_p > level:
        return f"n = {outcome.n} cannot reach p {level:g}: train {needed} {of} or more"
    if needed is None or needed > MOST_NEEDED:
        return f"the effect is so close to zero that more {of} are unlikely to decide it"
    return f"about {needed} {of} would decide an effect of this size (power 0.8, observed spread)"
