"""One training run, from its configuration to its run directory."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, TrainingArguments, set_seed

from msplora_core.errors import MSPLoraError, ParameterError
from msplora_core.runs import RunDirectory, RunRecord
from msplora_core.runs.lock import run_lock
from msplora_core.training.attaching.attachment import attachment_of
from msplora_core.training.callback import SpectralSnapshotCallback
from msplora_core.training.data.batches import EncodedExamples, LengthBatches, Padding, TokenisedItems
from msplora_core.training.data.examples import Examples
from msplora_core.training.data.instructions import Instructions
from msplora_core.training.data.prompts import EncodedInstructions
from msplora_core.training.data.task_data import data_digest, read_task
from msplora_core.training.describing import describe_run
from msplora_core.training.models import (
    is_causal,
    load_base,
    model_label,
    quiet_transformers,
    start_at_mean,
)
from msplora_core.training.processes import (
    ended_early,
    is_lost_connection,
    is_main_process,
    started_processes,
    wait_for_all,
)
from msplora_core.training.resuming import (
    MarkCheckpoints,
    NewSchedule,
    SaveTrained,
    full_disk,
    keep_checkpoint,
    last_checkpoint,
    rewind,
)
from msplora_core.training.run_config import RunConfig
from msplora_core.training.run_place import check_place, is_extendable
from msplora_core.training.run_warning import RunWarning
from msplora_core.training.schedule import ScaleSchedule
from msplora_core.training.tasks import constant_score, task_named
from msplora_core.training.trainer import AdapterTrainer, task_metrics, token_metrics, token_totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import TrainerCallback

    from msplora_core.training.data.task_data import TaskData

_EVAL_BATCH, _CAUSAL_EVAL_BATCH = 128, 8  # the logits of a causal model take much memory
_KEPT_CHECKPOINTS = 2  # the older one is kept until the newer is complete


def train_run(
    config: RunConfig,
    *,
    resume: bool = False,
    data: TaskData | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> RunDirectory:
    """Train one adapter and record its spectra.

    A finished run keeps its last checkpoint, from which `resume` can continue to more epochs. It keeps none if its
    course depends on the number of epochs.

    Everything is checked before the run directory is created, and it is locked for other processes. Under `torchrun`
    or `accelerate launch`, the processes share each batch, and the main process writes.

    Args:
        config: the run.
        resume: continue an existing run from its last finished epoch. A finished run is not changed, unless `config`
            has more epochs: then it continues, at the learning rate of a run with this number of epochs.
        data: examples for training and evaluation, instead of those of the task.
        callbacks: further callbacks of the Trainer, such as a display of progress.

    Returns:
        The run directory.

    Raises:
        ParameterError: if a setting does not fit the model, or the run to resume had other settings.
        DataFileError: if task data is missing or malformed.
        RunDirectoryError: if there is a run already and `resume` is not set, or another process trains it.
        TrainingError: if the loss is not finite; the records are kept.
    """
    run = RunDirectory(config.path)
    if check_place(config, resume=resume) == "finished":
        return run
    with run_lock(run.path) if is_main_process() else nullcontext():
        _train(config, resume, data or read_task(task_named(config.task), config.data_dir), callbacks)
    return run


def _train(config: RunConfig, resume: bool, data: TaskData, callbacks: Sequence[TrainerCallback]) -> None:
    run, task = RunDirectory(config.path), task_named(config.task)
    train, dev = data.train.subset(config.max_train_examples), data.dev.subset(config.max_eval_examples)
    attachment = attachment_of(config)
    set_seed(config.seed)
    with quiet_transformers():
        base, tokenizer = load_base(config, **attachment.loading())
        if config.random_labels and isinstance(train, Examples):
            train = train.with_permuted_labels()
        if task.outputs == 1 and isinstance(train, Examples):
            start_at_mean(base, train.labels)
        encoded, encoded_dev = (_encoded(examples, tokenizer, config) for examples in (train, dev))
        if is_main_process():
            if not task.instructions and is_causal(base.config):
                head = f"{model_label(config.model)} is a causal language model: it gets a new head, on the last token"
                warnings.warn(f"{config.task}: {head}", RunWarning, stacklevel=2)
            _tell_what_is_left_out(config, train, encoded, encoded_dev)
        steps = config.epochs * -(-len(encoded) // config.batch_size)
        model = attachment.attach(base, steps)
        arguments = _arguments(config, run, steps)
        process, processes = arguments.process_index, arguments.world_size
        batches = LengthBatches(encoded.lengths, config.batch_size, config.seed, process, processes, config.micro_batch)
        arguments.gradient_accumulation_steps = batches.parts
        _check_shares(batches, config.batch_size)
        wait_for_all()  # the main process has the lock; the folder does not change until the next wait
        if check_place(config, resume=resume) == "finished":  # by another launcher, before the lock was taken
            return
        checkpoint = last_checkpoint(run)
        arguments.eval_on_start = task.instructions and checkpoint is None
        updates = attachment.updates(model)
        wait_for_all()
        if arguments.process_index == 0:
            constant = constant_score(task.metric, encoded_dev.labels())
            record = describe_run(model, updates, updates.components(), attachment.configuration(model))
            record.metric, record.constant_score, record.eval_examples = task.metric, constant, len(encoded_dev)
            _open(run, config, record, checkpoint)
        wait_for_all()
        trainer = AdapterTrainer(
            model=model,
            args=arguments,
            batches=batches,
            penalty=attachment.penalty,
            train_dataset=encoded,
            eval_dataset=encoded_dev.by_length(),
            data_collator=Padding(tokenizer.pad_token_id),
            compute_metrics=token_metrics if task.instructions else task_metrics(task),
            preprocess_logits_for_metrics=token_totals if task.instructions else None,
            callbacks=[
                *attachment.callbacks(),
                MarkCheckpoints(),
                NewSchedule(),
                SaveTrained(run, attachment),
                SpectralSnapshotCallback(
                    run,
                    every_n_steps=config.spectra_steps,
                    every_n_epochs=config.spectra_every,
                    interference=config.interference and config.method == "msplora",
                    alerts=True,
                    updates=updates,
                ),
                *callbacks,
            ],
        )
        trainer.remove_callback(PrinterCallback)
        if config.schedule:
            trainer.add_callback(ScaleSchedule(config.schedule))
        if arguments.process_index:
            set_seed(config.seed + arguments.process_index)  # different dropout in each process
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except MSPLoraError:
            raise
        except Exception as error:
            if arguments.world_size > 1 and isinstance(error, RuntimeError) and is_lost_connection(error):
                raise ended_early(run.path) from error
            if full := full_disk(run, error):
                raise full from error
            raise
        wait_for_all()
        if is_main_process():
            keep_checkpoint(run, last_checkpoint(run) if is_extendable(config) else None)


def _encoded(examples: Examples | Instructions, tokenizer: Any, config: RunConfig) -> TokenisedItems:
    if isinstance(examples, Instructions):
        return EncodedInstructions(examples, tokenizer, config.max_length, config.loss_on_prompt)
    return EncodedExamples(examples, tokenizer, config.max_length)


def _tell_what_is_left_out(config: RunConfig, train: Examples | Instructions, *encoded: TokenisedItems) -> None:
    if not isinstance(train, Instructions):
        return
    both = [one for one in encoded if isinstance(one, EncodedInstructions)]
    rows, limit = sum(map(len, both)), f"--max-length {config.max_length}"
    for count, what in (
        (train.empty, "rows of the file are left out: their answers are empty"),
        (sum(one.left_out for one in both), f"rows are left out: their prompts fill {limit}"),
        (sum(one.cut for one in both), f"of {rows:,} rows are cut at {limit}"),
    ):
        if count:
            warnings.warn(f"{config.task}: {count:,} {what}", RunWarning, stacklevel=2)


def _check_shares(batches: LengthBatches, batch_size: int) -> None:
    if len(batches.lengths) // len(batches) < batches.processes:
        raise ParameterError(
            "batch_size",
            expected=f"batches of at least {batches.processes} examples, one a process",
            found=f"{batch_size} of {len(batches.lengths)} examples",
        )


def _open(run: RunDirectory, config: RunConfig, record: RunRecord, checkpoint: Path | None) -> None:
    """Write the run's record, or reset the run to its last checkpoint."""
    if run.record_path.is_file():
        rewind(run, checkpoint)
        record = run.read_record()
        record.hyperparameters, record.finished = config.hyperparameters(), None
        run.write_record(record)
        return
    task = task_named(config.task)
    record.method, record.task, record.seed = config.method_name, task.name, config.seed
    record.data, record.hyperparameters = data_digest(task, config.data_dir), config.hyperparameters()
    record.data_file = Path(task.folder).name if task.instructions else ""
    run.write_record(record)


def _arguments(config: RunConfig, run: RunDirectory, steps: int) -> TrainingArguments:
    causal = task_named(config.task).instructions
    return TrainingArguments(
        output_dir=str(run.checkpoints_path),
        num_train_epochs=config.epochs,
        per_device_eval_batch_size=(config.micro_batch or _CAUSAL_EVAL_BATCH) if causal else _EVAL_BATCH,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(config.warmup * steps if config.warmup < 1 else config.warmup),
        weight_decay=config.weight_decay,
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},  # the other mode needs inputs with gradients
        # Without a GPU, the Trainer refuses bf16, and processes do not connect, unless `use_cpu` is set.
        use_cpu=(config.bf16 or started_processes() > 1) and not torch.cuda.is_available(),
        ddp_find_unused_parameters=bool(config.schedule),
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
