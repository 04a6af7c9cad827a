"""The progress of a study: one live line per run on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from msplora_core.runs import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from msplora_core.study.launcher import Event
    from msplora_core.training import RunConfig


class StudyProgress:
    """Shows the events of a study's runs. A context manager that removes its bars from the terminal at the end.

    Args:
        console: the console to print to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns: tuple[Any, ...] = (
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            "{task.fields[score]}",
            TimeRemainingColumn(),
        )
        self.bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.all: TaskID | None = None
        self.runs: dict[Path, TaskID] = {}
        self.began: dict[Path, float] = {}
        self.scores: dict[Path, str] = {}
        self.done = self.count = 0

    def __enter__(self) -> StudyProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def announce(self, configs: list[RunConfig]) -> None:
        """Start with these runs."""
        self.done, self.count = 0, len(configs)
        if self.all is not None:
            self.bars.remove_task(self.all)
        self.all = self.bars.add_task("all runs", total=self.count, score="") if configs else None

    def watch(self, event: Event) -> None:
        """Show an event of a run."""
        path = event.config.path
        if event.kind == "started":
            self.began[path] = time.monotonic()
            self.scores[path] = ""
            self.runs[path] = self.bars.add_task(event.config.name, total=None, score="")
            if not self.console.is_terminal:
                self._line(f"{path}: begins")
        elif event.kind == "step":
            self.bars.update(self.runs[path], completed=event.step, total=event.steps)
        elif event.kind == "epoch":
            from msplora_cli.scale_ranks import entropy_ranks_at

            score = "not defined" if event.score is None else f"{event.score:.4f}"
            loss = "" if event.loss is None else f"loss {event.loss:.4f}  "
            self.scores[path] = f"{loss}{event.metric} {score}"
            self.scores[path] += entropy_ranks_at(RunDirectory(path), event.epoch)
            self.bars.update(self.runs[path], score=f"epoch {event.epoch}  {self.scores[path]}")
            if not self.console.is_terminal:
                self._line(f"{path}  epoch {event.epoch}/{event.config.epochs}  {self.scores[path]}")
        else:
            self._end(event)

    def _end(self, event: Event) -> None:
        path = event.config.path
        self.done += 1
        if path in self.runs:  # not where another process had it before
            self.bars.remove_task(self.runs.pop(path))
        if self.all is not None:
            self.bars.update(self.all, completed=self.done)
        if event.kind == "taken":
            said = "trained by another process"
        elif event.kind == "failed":
            said = f"failed: {event.error}"
        else:
            said = f"{self.scores[path]}  {duration(time.monotonic() - self.began[path])}"
        self._line(f"[{self.done}/{self.count}] {path}  {said}")

    def _line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a duration in words.

    Example:
        >>> duration(42.3), duration(600), duration(7260)
        ('42 s', '10 min', '2 h 01 min')
    """
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
