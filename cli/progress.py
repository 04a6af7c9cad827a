"""The progress of a training, as `train` and `demo` show it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from transformers import TrainerCallback

from msplora_cli.scale_ranks import entropy_ranks_at

if TYPE_CHECKING:
    from rich.console import Console
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from msplora_core.runs import RunDirectory

_SECONDS_BETWEEN_LINES = 60.0
"""Seconds between lines within an epoch, if there is no terminal for a bar."""


class TrainingProgress(TrainerCallback):
    """Prints one line per epoch with metrics and spectra; within an epoch, a bar on a terminal or a line per minute.

    Only the main process prints.

    Args:
        run: the run directory; its snapshots give the entropy rank of each scale.
        metric: the metric of the task.
        console: the console to print to.
    """

    def __init__(self, run: RunDirectory, metric: str, console: Console) -> None:
        self.run, self.metric, self.console = run, metric, console
        self.name = run.path.name
        columns = "{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.logged: dict[str, Any] = {}
        self.epoch_began = self.last_line = 0.0
        self.first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self.bar.start()
            self.bar.add_task(self.name, total=state.max_steps, completed=state.global_step)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.epoch_began = self.last_line = time.monotonic()
        self.first_step = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        epoch = f"{self.name}  epoch {int(state.epoch or 0) + 1}/{state.num_train_epochs}"
        self.bar.update(self.bar.tasks[0].id, completed=state.global_step, description=epoch)
        now = time.monotonic()
        within = not float(state.epoch or 0).is_integer()
        if within and not self.console.is_terminal and now - self.last_line >= _SECONDS_BETWEEN_LINES:
            self.last_line = now
            speed = (state.global_step - self.first_step) / max(now - self.epoch_began, 1e-9)
            self._print(f"{epoch}  step {state.global_step}/{state.max_steps}  {speed:.3g} steps/s")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.logged.update(logs or {})

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        epoch, width = round(state.epoch or 0), len(str(state.num_train_epochs))
        named = {"loss": "loss", "dev loss": "eval_loss", self.metric: f"eval_{self.metric}"}
        numbers = [f"  {name} {self.logged[key]:.4f}" for name, key in named.items() if key in self.logged]
        line = f"{self.name}  epoch {epoch:{width}d}/{state.num_train_epochs}{''.join(numbers)}"
        if epoch:  # before the first step there is no spectrum, rate or time
            line += (
                f"  lr {self.logged['learning_rate']:.1e}"
                f"{entropy_ranks_at(self.run, epoch)}"
                f"  {time.monotonic() - self.epoch_began:.1f} s"
            )
        self._print(line)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self.bar.stop()

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)
