"""One finding of a check, and summaries of findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from msplora_core.wording import listed

Severity = Literal["broken", "doubtful", "note"]
SEVERITIES: tuple[Severity, ...] = ("broken", "doubtful", "note")


@dataclass(frozen=True)
class Finding:
    """A finding on one module.

    Args:
        severity: `broken`: do not use it; `doubtful`: examine it; `note`: no defect.
        kind: the defect, in the same words for all modules.
        module: the component, `layer/query/3`; or the pattern, `rank_pattern 'q_proj'`; or the file, `metrics.jsonl`.
        value: the number behind it; NaN if there is none.
        says: that number in words.
        advice: what to do.

    Example:
        >>> print(Finding("broken", "not finite", "layer/query/3", float("nan"), "NaN or infinity", "train it again"))
        broken: not finite: layer/query/3: NaN or infinity; train it again
    """

    severity: Severity
    kind: str
    module: str
    value: float
    says: str
    advice: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.kind}: {self.module}: {self.says}; {self.advice}"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings sorted by severity, the most severe first."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def summarised(findings: Iterable[Finding]) -> list[str]:
    """Return a line for each kind of finding, with its first modules and the number of others.

    Example:
        >>> found = [Finding("note", "unused ranks", f"layer/q/{i}", 1.0, "1 of 8", "try r=4") for i in range(5)]
        >>> summarised(found)
        ['note: unused ranks: layer/q/0, layer/q/1, layer/q/2 and 2 more: 1 of 8; try r=4']
    """
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.severity, finding.kind].append(finding)
    lines = []
    for (severity, kind), members in groups.items():
        first, named = members[0], listed([one.module for one in members])
        lines.append(f"{severity}: {kind}: {named}: {first.says}; {first.advice}")
    return lines
