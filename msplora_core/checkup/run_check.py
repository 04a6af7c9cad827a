"""Check of the losses that a run logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msplora_core.checkup.finding import Finding
from msplora_core.runs import RunDirectory

BLOWN_UP = 100.0
"""Times the lowest loss of a run. Overfitting raises a loss by less."""
LARGEST_LOSS = 1e4


def has_blown_up(last: float, least: float) -> bool:
    """Return whether a training diverged: its last loss is far above its lowest, or above `LARGEST_LOSS`."""
    return last > LARGEST_LOSS or (least > 0 and last > BLOWN_UP * max(least, 1e-2))


def run_findings(run: RunDirectory) -> Iterator[Finding]:
    """Check the losses that a run logged.

    Args:
        run: the run directory; one without metrics.jsonl has no findings.
    """
    events = run.read_metrics(errors=[])
    for name in ("loss", "eval_loss"):
        yield from loss_findings(name, [event[name] for event in events if isinstance(event.get(name), int | float)])


def loss_findings(name: str, losses: Sequence[float]) -> Iterator[Finding]:
    """Check the losses of a training.

    Args:
        name: of the loss in the log.
        losses: in the order of training.
    """
    if losses and has_blown_up(losses[-1], min(losses)):
        says = f"the last {name} is {losses[-1]:.3g}, the lowest {min(losses):.3g}"
        advice = "do not use it; train again at a lower learning rate"
        yield Finding("broken", "the loss blew up", "metrics.jsonl", float(losses[-1]), says, advice)
