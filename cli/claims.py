"""Claims as lines on a terminal: the answer first, then its numbers."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from msplora_analysis.report.tables import short_stacks
from msplora_core.wording import significant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msplora_analysis import Verdict
    from msplora_analysis.statistics.claims import Claim

_COLUMNS = "{:<18} {:<12} {:>8} {:>17} {:>7} {}"
_LABEL = 16
_MOST_CLAIMS = 8
"""Of one number; more are counted."""
_KEY = (
    "These tasks: would other seeds say the same? Tasks like these: would other tasks? p: corrected over all tests of "
    "a claim under one question (Benjamini and Hochberg). n/needed: how many would decide an effect of this size."
)


def claim_lines(claims: list[Claim]) -> Iterator[str]:
    """Yield the lines on the claims: the answers with their numbers, then what cannot be told, and why.

    Args:
        claims: ordered by number.
    """
    told = [claim for claim in claims if claim.verdict.verdict != "cannot tell"]
    if told:
        yield _COLUMNS.format("Claims", "", "effect", "95% interval", "p", "n/needed")
    for number, members in groupby(told, key=lambda claim: claim.number):
        found = list(members)
        yield f"{number} {found[0].statement[0].upper()}{found[0].statement[1:]}"
        if len(found) > _MOST_CLAIMS:
            counts = Counter(claim.verdict.verdict for claim in found)
            words = ", ".join(f"{answer} for {count}" for answer, count in counts.most_common())
            yield f"  {words} of {len(found)}: see claims.csv"
            continue
        for claim in found:
            subject, first, *others = _subject(claim, claims), *claim.verdicts
            if not others:
                if len(subject) > _LABEL:
                    yield f" {subject}"
                yield _row(subject if len(subject) <= _LABEL else first.question.removeprefix("about "), first)
                continue
            steps = [first.step, *(f"{one.question}: {one.step}" for one in others if one.step != first.step)]
            effect = [*filter(None, steps), *([f"in {first.unit.removeprefix('in ')}"] if first.unit else [])]
            yield f" {subject}: {', '.join(effect)}" if effect else f" {subject}"
            for answer in claim.verdicts:
                yield _row(answer.question.removeprefix("about "), answer)
    yield from _untold([claim for claim in claims if claim.verdict.verdict == "cannot tell"], claims)
    questions = {answer.question for claim in told for answer in claim.verdicts}
    if "about these tasks" in questions:
        yield _KEY
    elif told:
        yield "p: by permuting the layers, corrected over all tests of a claim (Benjamini and Hochberg)."


def _row(label: str, answer: Verdict) -> str:
    interval = " to ".join(map(significant, answer.interval)) if answer.interval else "–"
    effect, p = (significant(answer.effect, sign="+"), f"{answer.p:.2g}") if answer.p == answer.p else ("", "")
    needed = f"/{answer.needed if answer.needed < 1_000 else '>999'}" if answer.needed else ""
    count = f"{answer.n}{needed} {answer.of.removesuffix(' of runs')}"
    return _COLUMNS.format(f"  {label}", answer.verdict, effect, interval, p, count)


def _untold(untold: list[Claim], claims: list[Claim]) -> Iterator[str]:
    """What cannot be told, once for all claims of a method that have the same reason, whatever their stacks."""
    reasons: dict[tuple[str, str], list[Claim]] = {}
    for claim in untold:
        answer = claim.verdict
        words = "; ".join(filter(None, (answer.reason, answer.next_step)))
        reasons.setdefault((claim.subject, words), []).append(claim)
    for (subject, words), found in reasons.items():
        numbers = list(dict.fromkeys(claim.number for claim in found))
        alike = [one for one in claims if (one.subject, one.number) == (subject, numbers[0])]
        everywhere = len(alike) * len(numbers) == len(found)
        subjects = [subject] if everywhere else dict.fromkeys(_subject(claim, claims) for claim in found)
        yield f"Cannot tell {', '.join(numbers)} for {', '.join(subjects)}: {words}"


def _subject(claim: Claim, claims: list[Claim]) -> str:
    """Which runs, with their model and stack where there are several."""
    stacks = short_stacks(one.stack for one in claims)
    several = [claim.model] if len({one.model for one in claims}) > 1 else []
    several += [stacks[claim.stack]] if len(stacks) > 1 and claim.stack else []
    return f"{claim.subject} ({', '.join(several)})" if several else claim.subject
