"""What the log of a run directory shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msplora_core.checkup.finding import Finding
from msplora_core.runs import RunDirectory

BLOWN_UP = 100.0
"""Times the least loss of a run. A loss that overfits rises by less."""
LARGEST_LOSS = 1e4


def has_blown_up(last: float, least: float) -> bool:
    """Return whether a training ended at a loss far above its least, or above that of any sound one."""
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
    """Check the losses of a training, in its order, under the name that its log has for them."""
    if losses and has_blown_up(losses[-1], min(losses)):
        says = f"the last {name} is {losses[-1]:.3g}, the least {min(losses):.3g}"
        advice = "do not use it; train again at a lower learning rate"
        yield Finding("broken", "the loss blew up", "metrics.jsonl", float(losses[-1]), says, advice)
