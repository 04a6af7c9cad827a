"""Training: the cost of the snapshots, and speed compared with a plain Trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from benchmarks.target import Line, Target
from benchmarks.timing import Bench

if TYPE_CHECKING:
    from msplora_core.training import Examples, RunConfig

_GLUE = Path(__file__).parent.parent.parent / "shared" / "glue"
_EXAMPLES = 500
_SETTINGS: dict[str, Any] = {"task": "mrpc", "epochs": 1, "batch_size": 32}


def snapshots(bench: Bench) -> list[Line]:
    """The cost of recording spectra, relative to an epoch of 500 examples with MiniLM-L6."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from msplora_core.training import Examples, RunConfig, SpectralSnapshotCallback, train_run
    from msplora_core.training.attaching.attachment import attachment_of
    from msplora_core.training.data.task_data import TaskData
    from msplora_core.training.models import load_base, quiet_transformers

    sentences = [" ".join(["word"] * (10 + i % 30)) for i in range(64 if bench.quick else _EXAMPLES)]
    examples = Examples([(sentence, sentence) for sentence in sentences], [i % 2 for i in range(len(sentences))])
    clock = _Clock()
    config = RunConfig(**_SETTINGS, out=bench.folder)
    train_run(config, data=TaskData(examples, examples.subset(8)), callbacks=[clock])

    with quiet_transformers():
        model = attachment_of(config).attach(load_base(config)[0], steps=1)
    arguments, state = TrainingArguments(output_dir=str(bench.folder / "none")), TrainerState(epoch=1.0)
    callback = SpectralSnapshotCallback(bench.folder / "snapshots")
    found = bench.medians({"ours": lambda: callback.on_epoch_end(arguments, state, TrainerControl(), model=model)})
    work, peer = "a snapshot, MSPLoRA 8/4/2 on MiniLM-L6", f"an epoch of {len(sentences):,} examples"
    return [Line(work, peer, found["ours"], clock.seconds, Target("at most", 0.01))]


def interference(bench: Bench) -> list[Line]:
    """A training step of MiniLM-L6 that records interference, by default every 10th step."""
    import torch

    from msplora_core.training import RunConfig
    from msplora_core.training.attaching.attachment import attachment_of
    from msplora_core.training.interference import InterferenceRecorder
    from msplora_core.training.models import load_base, quiet_transformers

    config = RunConfig(**_SETTINGS)
    with quiet_transformers():
        model = attachment_of(config).attach(load_base(config)[0], steps=1).train()
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-4)
    tokens = torch.randint(1000, 30000, (config.batch_size, 40))
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens[:, 0] % 2}
    recorder = InterferenceRecorder(model)

    def step(recorded: bool) -> None:
        if recorded:
            recorder.watch()
        model(**batch).loss.backward()
        recorder.before_step()
        optimiser.step()
        recorder.after_step()
        optimiser.zero_grad()

    found = bench.medians({"ours": lambda: step(True), "plain": lambda: step(False)}, rounds=11, seconds=30.0)
    work = "a step with interference recorded, MSPLoRA 8/4/2 on MiniLM-L6"
    return [Line(work, "a plain step", found["ours"], found["plain"], Target("at most", 1.2))]


class _Clock(TrainerCallback):
    """Measures the time of an epoch's steps."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begin = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.begin


def tokens(bench: Bench) -> list[Line]:
    """500 examples of one sentence and of two, from text to trained adapter, in batches of 64 as in the paper."""
    from msplora_core.training import TASKS, Examples
    from msplora_core.training.data.task_data import read_task

    target, lines = Target("faster", 1.2), []
    peers = {"plain Trainer, random batches": "random", "plain Trainer, group_by_length": "group_by_length"}
    for task, folder in (("sst2", "SST-2"), ("mrpc", "MRPC")):
        work = f"training on {_EXAMPLES:,} {folder} examples, MSPLoRA 8/4/2 on MiniLM-L6, batches of 64"
        if not (_GLUE / folder).is_dir():
            lines += [Line(work, peer, None, None, target, "the GLUE data is not there") for peer in peers]
            continue
        train = read_task(TASKS[task], _GLUE).train.subset(64 if bench.quick else _EXAMPLES)
        assert isinstance(train, Examples)
        found = bench.medians(_trainings(bench, task, train, peers), rounds=1, seconds=60.0)
        lines += [Line(work, peer, found["ours"], found[peer], target) for peer in peers]
    return lines


def _trainings(bench: Bench, task: str, train: Examples, peers: Mapping[str, str]) -> dict[str, Callable[[], None]]:
    """Return our training and the plain Trainer's for each sampling strategy; each call uses a new folder."""
    from msplora_core.training import RunConfig, train_run
    from msplora_core.training.data.task_data import TaskData
    from msplora_core.training.models import quiet_transformers

    settings, number = {**_SETTINGS, "task": task, "batch_size": 64}, count()

    def ours() -> None:
        config = RunConfig(**settings, out=bench.folder / f"{task}-{next(number)}")
        train_run(config, data=TaskData(train, train.subset(8)), callbacks=[])

    def plain(sampling: str) -> None:
        with quiet_transformers():
            _plain_trainer(RunConfig(**settings), train, bench.folder / f"{task}-{next(number)}", sampling)

    return {"ours": ours} | {peer: partial(plain, sampling) for peer, sampling in peers.items()}


def _plain_trainer(config: RunConfig, train: Examples, folder: Path, sampling: str) -> None:
    """Train as most tutorials do, with the same model, adapter, data and settings."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from msplora_core.training.attaching.attachment import attachment_of
    from msplora_core.training.models import load_base

    base, tokenizer = load_base(config)
    encoded = tokenizer(*map(list, zip(*train.texts, strict=True)), truncation=True, max_length=config.max_length)
    data = [
        {**{name: values[i] for name, values in encoded.items()}, "labels": label}
        for i, label in enumerate(train.labels)
    ]
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        save_strategy="epoch",
        train_sampling_strategy=sampling,
        report_to="none",
        disable_tqdm=True,
    )
    collator = DataCollatorWithPadding(tokenizer, padding="longest")
    Trainer(attachment_of(config).attach(base, steps=1), arguments, data_collator=collator, train_dataset=data).train()
