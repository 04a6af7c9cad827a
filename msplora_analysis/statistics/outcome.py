"""The outcome of a test: effect, interval, p value."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import Literal

Question = Literal["about these tasks", "about tasks like these", "about these layers"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test. Undefined numbers are NaN.

    Args:
        question: to which the p value and the interval refer.
        test: the test, with its number of arrangements, and its seed if they are random.
        n: number of independent observations.
        of: what they are: pairs of runs, tasks, layers.
        effect: the mean difference, in the unit of the data.
        p: two-sided p value.
        low: lower end of the 95% interval of the effect.
        high: upper end of it.
        least_p: the least p that this test can give for these data.
        needed: the n at which an effect of this size would be found with probability 0.8, for the observed spread;
            None if no n up to a million is enough, or the spread is unknown.
        note: on values that were left out or are undefined.
        p_corrected: p corrected for the number of tests in a family (see `correct_family`).
        family: the family, with the number of its tests.

    Example:
        >>> print(Outcome("about these tasks", "exact sign-flip test", n=3, of="pairs of runs", effect=0.2, p=0.25,
        ...               least_p=0.25))
        effect +0.2, p 0.25, least p 0.25 (n = 3 pairs of runs; about these tasks; exact sign-flip test)
    """

    question: Question
    test: str
    n: int
    of: str
    effect: float
    p: float
    low: float = nan
    high: float = nan
    least_p: float = nan
    needed: int | None = None
    note: str = ""
    p_corrected: float = nan
    family: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the effect, if there is one."""
        return None if isnan(self.low) else (self.low, self.high)

    @property
    def decisive_p(self) -> float:
        """The corrected p if the test belongs to a family, else p."""
        return self.p_corrected if self.family else self.p

    def __str__(self) -> str:
        numbers = numbers_text(self.effect, self.interval, self.p, self.least_p)
        if self.family:
            numbers += f", corrected p {self.p_corrected:.2g} over {self.family}"
        facts = [f"n = {self.n} {self.of}", self.question, self.test, *([self.note] if self.note else [])]
        return f"{numbers} ({'; '.join(facts)})"


def numbers_text(
    effect: float, interval: tuple[float, float] | None, p: float, least_p: float = nan, unit: str = ""
) -> str:
    """Return the numbers of a test in words: effect, interval, p, least p.

    Example:
        >>> numbers_text(0.031, (0.012, 0.05), 0.0117, unit="nats")
        'effect +0.031 nats, 95% interval +0.012 to +0.05, p 0.012'
        >>> numbers_text(nan, None, nan)
        'no effect known'
    """
    if isnan(effect):
        return "no effect known"
    parts = [f"effect {effect:+.3g}{f' {unit}' if unit else ''}"]
    if interval:
        parts.append(f"95% interval {interval[0]:+.3g} to {interval[1]:+.3g}")
    if not isnan(p):
        parts.append(f"p {p:.2g}")
    if not isnan(least_p):
        parts.append(f"least p {least_p:.2g}")
    return ", ".join(parts)
