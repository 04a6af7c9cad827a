"""Claims as lines on a terminal: the answer first, then its numbers."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from msplora_analysis.report.claim_texts import READING, READING_OF_LAYERS, named, untold
from msplora_analysis.report.tables import NONE
from msplora_analysis.statistics.verdicts import MOST_NEEDED, several
from msplora_core.wording import significant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msplora_analysis import Verdict
    from msplora_analysis.statistics.claims import Claim

_COLUMNS = "{:<18} {:<12} {:>8} {:>17} {:>7} {:>7} {:>3}"
_LABEL = 16
_MOST_CLAIMS = 8
"""Of one number; more are counted."""
_LEVEL = 0.05
_NEXT = " next: what would decide an effect of this size (power 0.8, observed spread)."


def claim_lines(claims: list[Claim]) -> Iterator[str]:
    """Yield the lines on the claims: the answers with their numbers, then what cannot be told, and why.

    Args:
        claims: ordered by number.
    """
    told = [claim for claim in claims if claim.verdict.verdict != "cannot tell"]
    if told:
        yield _COLUMNS.format("Claims", "", "effect", "95% interval", "p", "least p", "n")
    for number, members in groupby(told, key=lambda claim: claim.number):
        found = list(members)
        yield f"{number} {found[0].statement[0].upper()}{found[0].statement[1:]}"
        if len(found) > _MOST_CLAIMS:
            counts = Counter(claim.verdict.verdict for claim in found)
            words = ", ".join(f"{answer} for {count}" for answer, count in counts.most_common())
            yield f"  {words} of {len(found)}: see claims.csv"
            continue
        common = dict[str, None]()
        for claim in found:
            subject, first, *others = named(claim, claims), *claim.verdicts
            if not others:
                if len(subject) > _LABEL:
                    yield f" {subject}"
                yield _row(subject if len(subject) <= _LABEL else first.question.removeprefix("about "), first)
                common |= dict.fromkeys(_next(first))
                continue
            steps = [first.step, *(f"{one.question}: {one.step}" for one in others if one.step != first.step)]
            effect = [*filter(None, steps), *([f"in {first.unit.removeprefix('in ')}"] if first.unit else [])]
            yield f" {subject}: {', '.join(effect)}" if effect else f" {subject}"
            for answer in claim.verdicts:
                yield _row(answer.question.removeprefix("about "), answer)
            steps = [step for answer in claim.verdicts for step in _next(answer)]
            if steps:
                yield f"  next: {'; '.join(steps)}"
        if common:
            yield f"  next: {'; '.join(common)}"
    yield from untold(claims)
    questions = {answer.question for claim in told for answer in claim.verdicts}
    if "about these tasks" in questions:
        yield READING + _NEXT
    elif told:
        yield READING_OF_LAYERS


def _row(label: str, answer: Verdict) -> str:
    interval = " to ".join(map(significant, answer.interval)) if answer.interval else NONE
    effect, p = (significant(answer.effect, sign="+"), f"{answer.p:.2g}") if answer.p == answer.p else ("", NONE)
    least = f"{answer.least_p:.2g}" if answer.least_p == answer.least_p else NONE
    return _COLUMNS.format(f"  {label}", answer.verdict, effect, interval, p, least, answer.n)


def _next(answer: Verdict) -> Iterator[str]:
    """What would decide, in a few words; nothing if it is decided."""
    of = several(answer.of).removesuffix(" of runs")
    if answer.verdict == "cannot tell" or (answer.verdict == "not decided" and of == "layers"):
        yield answer.next_step
    elif answer.verdict == "not decided" and answer.least_p > _LEVEL:
        yield f"{answer.needed} {of} or more ({answer.n} cannot reach p {_LEVEL})"
    elif answer.verdict == "not decided" and (answer.needed is None or answer.needed > MOST_NEEDED):
        yield f"too close to 0 for more {of}"
    elif answer.verdict == "not decided":
        yield f"about {answer.needed} {of}"
