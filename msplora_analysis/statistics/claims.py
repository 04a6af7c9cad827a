"""Verdicts on claims: the tests of a claim are corrected together, and its steps are combined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.statistics.differences import sign_flip_test, task_mean_test
from msplora_analysis.statistics.family import correct_family
from msplora_analysis.statistics.outcome import Outcome
from msplora_analysis.statistics.verdicts import Verdict, verdict

if TYPE_CHECKING:
    from pandas import DataFrame

STATEMENTS = {
    "1a": "the global scale has the highest σ₁, the layers' own the lowest",
    "1b": "the global scale has the most active dimensions, the layers' own the fewest",
    "1c": "the global scale is the most complex one beyond its null",
    "2": "MSPLoRA's layers are further apart than LoRA's",
    "2a": "adjacent layers of plain LoRA are more alike than distant ones",
    "2b": "layers of plain LoRA are more alike within a third than across",
}
"""By number: 1a and 1b are the paper's reading of Fig. 3, 2 is that of Fig. 4; the others are their premises."""


@dataclass(frozen=True)
class Claim:
    """One claim, tested on the runs of one method.

    Args:
        number: key of `STATEMENTS`.
        method: of the runs.
        model: the base model.
        stack: the stack of layers; empty if unknown.
        verdicts: about these tasks, then about tasks like these; or one about these layers; or one `cannot tell` with
            what to train.
        baseline: the method it is compared with; empty without comparison.
        scale: of the compared spectra: `layer` or `total`; empty for several.
        numbers: the measured values, in words.
        differences: of the step that decides about these tasks, one a run or pair of runs, positive if it agrees with
            the claim; empty if it cannot be tested.
        tasks: the task of each difference; a run of unknown task is a task of its own.
    """

    number: str
    method: str
    model: str
    stack: str
    verdicts: tuple[Verdict, ...] = ()
    baseline: str = ""
    scale: str = ""
    numbers: str = ""
    differences: tuple[float, ...] = ()
    tasks: tuple[str, ...] = ()

    @property
    def statement(self) -> str:
        """The claim in words."""
        return STATEMENTS[self.number]

    @property
    def verdict(self) -> Verdict:
        """The first verdict: about these tasks, if it can be tested."""
        return self.verdicts[0]

    @property
    def subject(self) -> str:
        """The method, scale and baseline: `msplora-8-4-2 total against lora-r14`."""
        against = f"against {self.baseline}" if self.baseline else ""
        return " ".join(filter(None, (self.method, self.scale, against)))

    def __str__(self) -> str:
        stack = f", {self.stack}" if self.stack else ""
        facts = "; ".join(filter(None, (self.numbers, *map(str, self.verdicts))))
        return f"Claim {self.number}, {self.statement}: {self.verdict.verdict} for {self.subject}{stack} ({facts})"


@dataclass(frozen=True)
class Step:
    """One test of a claim, which holds if all its steps do.

    Args:
        name: in words; empty if the claim has one step.
        outcome: of the test; its effect is positive if it agrees with the claim.
        differences: the tested values.
    """

    name: str
    outcome: Outcome
    differences: tuple[float, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A claim before the tests of all claims with its number are corrected together.

    Args:
        claim: with its verdict if it cannot be tested.
        unit: of the effects.
        questions: the steps of each question; empty if it cannot be tested.
        null: values of the null model, in words.
    """

    claim: Claim
    unit: str = ""
    questions: tuple[tuple[Step, ...], ...] = ()
    null: str = ""


def both_questions(
    claim: Claim, steps: dict[str, NDArray[np.float64]], runs: Sequence[str], of: str, unit: str, null: str = ""
) -> Draft:
    """Return a claim with the tests of both questions: about these tasks, and about tasks like these.

    Args:
        claim: with the task of each run; empty if unknown.
        steps: the differences of each step, one a run or pair of runs.
        runs: the run of each difference, which replaces an unknown task.
        of: what n counts: `runs`, `pairs of runs`.
        unit: of the differences.
        null: values of the null model, in words.
    """
    tasks = tuple(task or run for task, run in zip(claim.tasks, runs, strict=True))
    these = tuple(
        Step(name, replace(sign_flip_test(values), of=of), tuple(values.tolist())) for name, values in steps.items()
    )
    like = tuple(Step(name, task_mean_test(values, tasks)) for name, values in steps.items())
    return Draft(replace(claim, tasks=tasks), unit, (these, like), null)


def untestable(claim: Claim, reason: str, next_step: str = "") -> Draft:
    """Return a claim that cannot be tested, with the reason and what to train."""
    return Draft(replace(claim, verdicts=(Verdict("cannot tell", reason=reason, next_step=next_step),), tasks=()))


def settle(drafts: Iterable[Draft]) -> list[Claim]:
    """Return the claims with their verdicts; p is corrected over the tests of all claims of one number and question.

    Claims are ordered by number, and for each number models, methods and stacks in the same order.

    A claim of several steps is borne out if all steps are, and contradicted if one step is; its verdict is that of
    the deciding step.
    """
    drafts = list(drafts)
    steps = [
        (draft.claim.number, steps[0].outcome.question, place, number, step)
        for place, draft in enumerate(drafts)
        for number, steps in enumerate(draft.questions)
        for step in steps
    ]
    corrected: dict[tuple[int, int], list[Step]] = {}
    for (claim, _), members in groupby(sorted(steps, key=lambda one: one[:2]), key=lambda one: one[:2]):
        family = list(members)
        outcomes = [one[-1].outcome for one in family]
        if sum(outcome.p == outcome.p for outcome in outcomes) > 1:
            outcomes = correct_family(outcomes, f"all tests of claim {claim} {outcomes[0].question}")
        for (*_, place, number, step), outcome in zip(family, outcomes, strict=True):
            corrected.setdefault((place, number), []).append(replace(step, outcome=outcome))
    claims = [
        _settled(draft, [corrected[place, number] for number in range(len(draft.questions))])
        for place, draft in enumerate(drafts)
    ]
    whose = list(dict.fromkeys((claim.model, claim.method, claim.stack) for claim in claims))
    return sorted(claims, key=lambda claim: (claim.number, whose.index((claim.model, claim.method, claim.stack))))


_ORDER = ("borne out", "not decided", "cannot tell", "contradicted")


def _settled(draft: Draft, questions: list[list[Step]]) -> Claim:
    if not questions:
        return draft.claim
    verdicts, deciding = [], []
    for steps in questions:
        answers = [verdict(step.outcome, unit=draft.unit, null=draft.null) for step in steps]
        worst = max(answers, key=lambda answer: _ORDER.index(answer.verdict)).verdict
        sign = -1 if worst == "contradicted" else 1
        step, answer = max(
            ((step, answer) for step, answer in zip(steps, answers, strict=True) if answer.verdict == worst),
            key=lambda pair: (sign * pair[1].p, -pair[1].effect),
        )
        verdicts.append(replace(answer, step=step.name if len(steps) > 1 else ""))
        deciding.append(step)
    return replace(draft.claim, verdicts=tuple(verdicts), differences=deciding[0].differences)


def by_scale(frame: DataFrame, column: str, name: str) -> str:
    """Return the values of a column by scale, in words: `entropy rank global 4.92, layer 4.56`."""
    values = ", ".join(f"{scale} {value:.3g}" for scale, value in zip(frame["scale"], frame[column], strict=True))
    return f"{name} {values}"
