"""One line of the table: the work, the peer, both results, and whether the target is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["at most", "faster", "over"]


@dataclass(frozen=True)
class Target:
    """The target for our result, relative to a peer's.

    Args:
        kind: `at most`: ours is at most `limit` times the peer's; `faster`: the peer's is at least `limit` times ours;
            `over`: ours is at most `limit` more than the peer's.
        limit: the factor, or the difference.
        unit: the unit of the results.

    Example:
        >>> print(Target("faster", 2000), Target("over", 300, "MB"), sep="; ")
        at least 2,000 × faster; at most 300 MB over
        >>> Target("faster", 2000).ratio(ours=0.2, peers=600.0)
        3000.0
    """

    kind: Kind
    limit: float
    unit: Literal["s", "MB"] = "s"

    def __str__(self) -> str:
        if self.kind == "over":
            return f"at most {self.limit:g} {self.unit} over"
        return f"at least {self.limit:,g} × faster" if self.kind == "faster" else f"at most {self.limit:g} ×"

    def ratio(self, ours: float, peers: float) -> float:
        """Return the value to compare with the limit."""
        if self.kind == "over":
            return ours - peers
        return ours / peers if self.kind == "at most" else peers / ours

    def met_by(self, ratio: float) -> bool:
        """Return whether the target is met."""
        return ratio >= self.limit if self.kind == "faster" else ratio <= self.limit

    def shown(self, ratio: float) -> str:
        """Return the ratio as text, in the form of the limit."""
        if self.kind == "over":
            return f"{ratio:+.2f} s" if self.unit == "s" else f"{ratio:+.0f} MB"
        return f"{ratio:,.0f} × faster" if self.kind == "faster" and ratio >= 10 else _times(self.kind, ratio)


def _times(kind: Kind, ratio: float) -> str:
    return f"{ratio:.2f} × faster" if kind == "faster" else f"{ratio:.{2 if ratio >= 0.1 else 4}f} ×"


@dataclass(frozen=True)
class Line:
    """One measurement.

    Args:
        work: the work that was measured.
        peer: what it is compared with, and how that was measured if not obvious.
        ours: median, in the target's unit; None if it failed.
        peers: the peer's median; None if there is none.
        target: the target.
        missing: why a number is missing.
    """

    work: str
    peer: str
    ours: float | None
    peers: float | None
    target: Target
    missing: str = ""

    @property
    def ratio(self) -> float | None:
        """The value to compare with the target; None unless both numbers are known."""
        return None if self.ours is None or self.peers is None else self.target.ratio(self.ours, self.peers)

    @property
    def met(self) -> bool:
        """Whether the target is met; false if a number is missing."""
        return self.ratio is not None and self.target.met_by(self.ratio)

    def record(self) -> dict[str, Any]:
        """Return the line as values for JSON."""
        return {
            "work": self.work,
            "peer": self.peer,
            "ours": self.ours,
            "peers": self.peers,
            "unit": self.target.unit,
            "ratio": self.ratio,
            "target": str(self.target),
            "kind": self.target.kind,
            "limit": self.target.limit,
            "met": self.met,
            "missing": self.missing,
        }
