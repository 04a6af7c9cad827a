"""A worker trains runs one after the other and reports their progress: `python -m msplora_core.study.worker`.

It reads runs from standard input and writes messages to standard output, as lines of JSON. It stops at once when its
input ends, so that no worker outlives its launcher.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from msplora_core.errors import DivergenceError, FileError, LockedRunError, MSPLoraError
from msplora_core.study.entries import Failure, clear_failure, log_path, note_failure
from msplora_core.training.run_config import TYPES, RunConfig
from msplora_core.training.tasks import task_named
from msplora_core.typed_values import convert

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

_LONGEST = 2_000
"""Characters of a reason. The launcher reads lines of at most 64 KiB, and the log has the traceback."""

Tell = Callable[[dict[str, Any]], object]


def train_one(config: RunConfig, tell: Tell = lambda message: None) -> dict[str, str]:
    """Train or resume a run of a study, and log to its file in `logs/`.

    Args:
        config: the run.
        tell: receives messages: `{"kind": "step", "step", "steps"}`, `{"kind": "epoch", "epoch", "loss",
            "metric", "score"}`.

    Returns:
        The outcome: `{"kind": "finished"}`, `{"kind": "taken"}` if another process trains the run, or
        `{"kind": "failed", "error"}` with the reason in one line.
    """
    path = log_path(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_failure(config)
        with path.open("a", encoding="utf-8", buffering=1) as log, redirect_stderr(log), redirect_stdout(log):
            try:
                _train(config, tell)
            except LockedRunError:
                return {"kind": "taken"}
            except Exception:
                traceback.print_exc()
                raise
    except Exception as error:
        reason = str(error) if isinstance(error, MSPLoraError) else f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split())[:_LONGEST]
        with suppress(FileError):  # if the disk is full, the message is still sent
            note_failure(config, Failure(reason, isinstance(error, DivergenceError)))
        return {"kind": "failed", "error": reason}
    return {"kind": "finished"}


def _train(config: RunConfig, tell: Tell) -> None:
    from transformers import TrainerCallback

    from msplora_core.training.run import train_run

    class Messages(TrainerCallback):
        """Reports steps, losses and scores."""

        loss: float | None = None

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            tell({"kind": "step", "step": state.global_step, "steps": state.max_steps})

        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: Mapping[str, float] | None = None,
            **kwargs: Any,
        ) -> None:
            self.loss = (logs or {}).get("loss", self.loss)

        def on_evaluate(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            metrics: Mapping[str, float] | None = None,
            **kwargs: Any,
        ) -> None:
            metric = task_named(config.task).metric
            epoch, score = round(state.epoch or 0), (metrics or {}).get(f"eval_{metric}")
            print(f"{config.name}  epoch {epoch}/{config.epochs}  loss {self.loss}  {metric} {score}")
            tell({"kind": "epoch", "epoch": epoch, "loss": self.loss, "metric": metric, "score": score})

    train_run(config, resume=True, callbacks=[Messages()])


def to_line(config: RunConfig) -> str:
    """Return a run as a line of JSON.

    Example:
        >>> config = RunConfig(task="mrpc", rank_pattern={"value": (4, 2, 1)}, data_dir="glue")
        >>> from_line(to_line(config)) == config
        True
    """
    return json.dumps(asdict(config), default=str) + "\n"


def from_line(line: str) -> RunConfig:
    """Return the run of a line of JSON."""
    values: dict[str, Any] = {
        name: None if value is None else convert(value, TYPES[name]) for name, value in json.loads(line).items()
    }
    return RunConfig(**values)


def main() -> None:
    """Train the runs from standard input until it ends."""
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that output of libraries is not read as messages
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to launcher and workers; the launcher decides
    runs: SimpleQueue[str] = SimpleQueue()
    Thread(target=_listen, args=(runs,), daemon=True).start()

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=messages)

    while True:
        tell(train_one(from_line(runs.get()), tell))


def _listen(runs: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        runs.put(line)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
