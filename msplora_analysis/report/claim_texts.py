"""The words on claims for the terminal and for a paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msplora_analysis.report.tables import NONE, TextTable, short_stacks
from msplora_analysis.statistics.claims import STATEMENTS

if TYPE_CHECKING:
    from msplora_analysis.statistics.claims import Claim

READING = (
    "Intervals and p answer the question of their row. These tasks: would other seeds say the same? n counts runs, or "
    "pairs of runs. Tasks like these: would other tasks? n counts tasks. p: corrected over all tests of a claim under "
    "one question (Benjamini and Hochberg). least p: the least that this n can give, uncorrected. –: the test gives "
    "none."
)
READING_OF_LAYERS = "p: by permuting the layers, corrected over all tests of a claim (Benjamini and Hochberg)."


def claims_table(claims: Sequence[Claim]) -> TextTable:
    """Return a row for each verdict, for a paper; `svd` prints claims as lines."""
    told = [claim for claim in claims if claim.verdict.verdict != "cannot tell"]
    rows = []
    for claim in told:
        for answer in claim.verdicts:
            interval = f"{answer.interval[0]:+.3g} to {answer.interval[1]:+.3g}" if answer.interval else NONE
            p, least = (NONE if value != value else f"{value:.2g}" for value in (answer.p, answer.least_p))
            known = answer.effect == answer.effect
            effect = f"{answer.effect:+.3g} {answer.unit.removeprefix('in ')}".strip() if known else NONE
            question = answer.question.removeprefix("about ")
            runs = ": ".join(filter(None, (named(claim, claims), answer.step)))
            rows.append((claim.number, runs, question, answer.verdict, str(answer.n or NONE), effect,
                         interval, p, least))  # fmt: skip
    headers = ("claim", "runs", "question", "verdict", "n", "effect", "95% interval", "p", "least p")
    stated = [f"{number}: {STATEMENTS[number]}." for number in dict.fromkeys(claim.number for claim in claims)]
    questions = {answer.question for claim in told for answer in claim.verdicts}
    reading = READING if "about these tasks" in questions else READING_OF_LAYERS
    key = [*stated, "Effects above 0 agree with the claim.", reading, *(f"{line}." for line in untold(claims))]
    return TextTable("claims", "Claims", headers, 4, tuple(rows), (), " ".join(key))


def untold(claims: Sequence[Claim]) -> Iterator[str]:
    """Yield what cannot be told, once for all claims of a method that have the same reason, whatever their stacks."""
    reasons: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        answer = claim.verdict
        if answer.verdict == "cannot tell":
            words = "; ".join(filter(None, (answer.reason, answer.next_step)))
            reasons.setdefault((claim.subject, words), []).append(claim)
    for (subject, words), found in reasons.items():
        numbers = list(dict.fromkeys(claim.number for claim in found))
        alike = [one for one in claims if (one.subject, one.number) == (subject, numbers[0])]
        everywhere = len(alike) * len(numbers) == len(found)
        subjects = [subject] if everywhere else dict.fromkeys(named(claim, claims) for claim in found)
        yield f"Cannot tell {', '.join(numbers)} for {', '.join(subjects)}: {words}"


def named(claim: Claim, claims: Sequence[Claim]) -> str:
    """Return which runs a claim is about, with their model where there are several, and its stack likewise."""
    stacks = short_stacks(one.stack for one in claims if one.model == claim.model)
    several = [claim.model] if len({one.model for one in claims}) > 1 else []
    several += [stacks[claim.stack]] if len(stacks) > 1 and claim.stack else []
    return f"{claim.subject} ({', '.join(several)})" if several else claim.subject
