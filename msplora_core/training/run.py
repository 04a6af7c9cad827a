"""One training run, from its configuration to its run directory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, TrainingArguments, set_seed

from msplora_core.errors import ParameterError, RunDirectoryError
from msplora_core.snapshots import RunDirectory
from msplora_core.training.batches import EncodedExamples, LengthBatches, Padding
from msplora_core.training.checkpoints import MarkCheckpoints, SaveAdapter, last_checkpoint, rewind, wait_for_all
from msplora_core.training.config import RunConfig
from msplora_core.training.data import read_task
from msplora_core.training.models import attach_adapter, load_base, model_label, packaged_model, quiet_transformers
from msplora_core.training.progress import TrainingProgress
from msplora_core.training.recording import SpectralSnapshotCallback, describe_run
from msplora_core.training.tasks import TASKS
from msplora_core.training.trainer import AdapterTrainer, task_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import TrainerCallback

    from msplora_core.training.data import Examples

_EVAL_BATCH = 128
_KEPT_CHECKPOINTS = 2  # the older one stays until the newer is whole


def train_run(
    config: RunConfig,
    *,
    resume: bool = False,
    data: tuple[Examples, Examples] | None = None,
    callbacks: Sequence[TrainerCallback] | None = None,
) -> RunDirectory:
    """Train one adapter and record its spectra.

    Everything is checked before the run directory is made. Under `torchrun` or `accelerate launch` the
    processes share each batch, and the main one writes.

    Args:
        config: what to train.
        resume: go on from the last finished epoch of a run that is already there; one that is finished
            is left as it is.
        data: examples to train on and to evaluate on, instead of those that `config` names.
        callbacks: of the Trainer; a display of progress where not given.

    Returns:
        The run directory.

    Raises:
        ParameterError: if something in `config` does not fit the model, or a run to resume was another.
        DataFileError: if task data is missing or malformed.
        RunDirectoryError: if there is a run already and `resume` is not set.
        TrainingError: if the loss is not finite; what was recorded stays.
    """
    run = RunDirectory(config.path)
    going_on = RunDirectory.is_run(run.path)
    if going_on:
        _check_same(run, config, resume)
        if run.read_record().finished:
            return run
    elif run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
        raise RunDirectoryError(run.path, expected="no folder yet, or a run", found="something else")
    task = TASKS[config.task]
    train, dev = data or [read_task(task, split, _path(config.data_dir)) for split in ("train", "dev")]
    set_seed(config.seed)
    with quiet_transformers():
        base, tokenizer = load_base(config)
        encoded = EncodedExamples(train.subset(config.max_train_examples), tokenizer, config.max_length)
        encoded_dev = EncodedExamples(dev, tokenizer, config.max_length).by_length()
        model = attach_adapter(config, base)
        steps = config.epochs * -(-len(encoded) // config.batch_size)
        arguments = _arguments(config, run, steps)
        batches = LengthBatches(
            encoded.lengths, config.batch_size, config.seed, arguments.process_index, arguments.world_size
        )
        wait_for_all()  # every process has looked at the folder before one of them writes there
        checkpoint = last_checkpoint(run)
        if arguments.process_index == 0:
            _open(run, config, model, checkpoint)
        wait_for_all()
        if callbacks is None:
            callbacks = [TrainingProgress(config.name, task.metric)]
        trainer = AdapterTrainer(
            model=model,
            args=arguments,
            batches=batches,
            train_dataset=encoded,
            eval_dataset=encoded_dev,
            data_collator=Padding(tokenizer.pad_token_id),
            compute_metrics=task_metrics(task),
            callbacks=[MarkCheckpoints(), SaveAdapter(run), SpectralSnapshotCallback(run), *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return run


def is_finished(config: RunConfig) -> bool:
    """Whether the run of a configuration is there and finished."""
    run = RunDirectory(config.path)
    return RunDirectory.is_run(run.path) and run.read_record().finished is not None


def _check_same(run: RunDirectory, config: RunConfig, resume: bool) -> None:
    if not resume:
        raise RunDirectoryError(
            run.path,
            expected="no run yet",
            found="one",
            hint="--resume goes on with it; --out puts the new one elsewhere",
        )
    record = run.read_record()
    wanted = {"model": model_label(config.model or packaged_model()), **_through_json(config.hyperparameters())}
    found = {"model": record.model, **record.hyperparameters}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ParameterError(
                name, expected=f"{found.get(name)!r}, as in the run to resume, {run.path}", found=value
            )


def _open(run: RunDirectory, config: RunConfig, model: Any, checkpoint: Path | None) -> None:
    """Make the run directory, or bring it back to its last checkpoint."""
    if run.record_path.is_file():
        rewind(run, checkpoint)
        return
    record = describe_run(model)
    record.method, record.task, record.seed = config.method_name, config.task, config.seed
    record.hyperparameters = config.hyperparameters()
    run.write_record(record)


def _arguments(config: RunConfig, run: RunDirectory, steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(run.checkpoints_path),
        num_train_epochs=config.epochs,
        per_device_eval_batch_size=_EVAL_BATCH,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(config.warmup * steps),
        weight_decay=config.weight_decay,
        bf16=config.bf16,
        seed=config.seed,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=_KEPT_CHECKPOINTS,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)
