"""What a training run says while it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class TrainingProgress(TrainerCallback):
    """A line an epoch with its metrics; on a terminal a bar over the steps, too. Only the main process speaks.

    Args:
        name: of the run.
        metric: the task's.
        console: where to; standard error where not given.
    """

    def __init__(self, name: str, metric: str, console: Console | None = None) -> None:
        self.name, self.metric = name, metric
        self.console = console or Console(file=sys.stderr, highlight=False)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.logged: dict[str, Any] = {}
        self.began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self.bar.start()
            self.bar.add_task(self.name, total=state.max_steps, completed=state.global_step)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bar.tasks:
            self.bar.update(self.bar.tasks[0].id, completed=state.global_step)

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
        width = len(str(state.num_train_epochs))
        self.console.print(
            f"{self.name}  epoch {round(state.epoch or 0):{width}d}/{state.num_train_epochs}"
            f"  loss {self.logged['loss']:.4f}"
            f"  dev loss {self.logged['eval_loss']:.4f}"
            f"  {self.metric} {self.logged[f'eval_{self.metric}']:.4f}"
            f"  lr {self.logged['learning_rate']:.1e}"
            f"  {time.perf_counter() - self.began:.1f} s",
            soft_wrap=True,
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        self.bar.stop()
