"""The configuration of a training run: one method, one task, one seed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from msplora_core.errors import FileError, ParameterError
from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.formats.peft.plan_file import is_pyramid, plan_fields, read_rank_plan
from msplora_core.method_list import METHOD_SETTINGS, Method, method_named
from msplora_core.methods import RANDOM_LABELS, configured_name, method_name, of_layers, planned_name, pyramid_name
from msplora_core.pyramid import SCALES, check_ranks
from msplora_core.training.method_options import checked_options, peft_fields
from msplora_core.training.tasks import task_named

INITIALISATIONS = ("kaiming", "gaussian", "orthogonal")


@dataclass(frozen=True)
class RunConfig:
    """One training run. `RunConfig(task="mrpc", data_dir="glue")` is enough.

    Args:
        task: one of the six GLUE tasks `cola`, `mrpc`, `stsb`, `rte`, `sst2`, `qnli`, in any spelling; one of the
            generated tasks `acceptability`, `paraphrase`, `similarity`, which need no data; or a `.json` or `.jsonl`
            file of instructions with answers, in `data_dir` if given, for a causal model.
        method: a name in `msplora_core.method_list.METHODS`. Settings that the method does not have are ignored;
            `options` holds its further options.
        options: of the method, by their names in PEFT: `{"init_r": 12}`.
        config: for the method `peft`: an `adapter_config.json` with the method and its options.
        spectra_every: record spectra every n epochs, and after the last.
        spectra_steps: also record them within epochs, every n optimiser steps.
        ranks: of MSPLoRA: global, mid, layer; 0 leaves a scale out.
        rank: of the other methods that have one; by default the method's, 8 for LoRA.
        groups: of layers that share a mid component: their number, or the boundaries between them; by default 3, or the
            number of layers if less.
        alpha: the update is scaled by alpha/rank; for MSPLoRA one for all scales, or three. By default the method's, 16
            for LoRA.
        rslora: scale by alpha/√rank instead.
        rank_pattern: ranks of module types that differ from the others: one for LoRA, three for MSPLoRA.
        plan: file or folder from `msplora-analyze plan --out`, with method, ranks, α and modules. `{task}` and `{seed}`
            in it are replaced by those of the run.
        init: initialisation of the factors: `kaiming`, `gaussian` or `orthogonal`.
        dropout: probability with which an input of the adapter is dropped; by default the method's, 0.05 for LoRA.
        target_modules: module types to adapt; by default the model's query and value.
        model: local folder or hub id, or `smollm2` for the packaged SmolLM2-135M-Instruct; by default the packaged
            MiniLM-L6. A causal language model gets a new head for a GLUE task.
        data_dir: folder with the official GLUE layout, or with the file of instructions; by default the Hugging Face
            hub, or the current folder for instructions.
        out: the folder for the run directory.
        seed: of initialisation, dropout and the order of the examples.
        epochs: passes over the examples.
        batch_size: examples per optimiser step, over all processes.
        micro_batch: examples in one forward pass of a process, to save memory; the step is the same. By default the
            process's whole share of the batch.
        learning_rate: at its peak; it then falls linearly to 0 over all epochs.
        warmup: share of the steps over which the learning rate rises; if at least 1, number of steps.
        weight_decay: of AdamW.
        max_length: tokens of an example; longer ones are cut.
        max_train_examples: train on a fixed random choice of n examples; by default on all.
        max_eval_examples: evaluate on n examples, likewise.
        random_labels: train on labels that are permuted with a fixed seed, as a control for the effect of training
            itself on spectra. Added to the method's name.
        loss_on_prompt: for instructions, learn the prompts as well as the answers.
        bf16: autocast to bfloat16.
        gradient_checkpointing: recompute activations in the backward pass, which takes less memory and more time.
        schedule: train MSPLoRA scale by scale: the epochs are divided evenly into phases, each with the scales
            that train in it, as in `(("global",), ("mid", "layer"))`; by default all train together.
        interference: record whether the scales of MSPLoRA, and the layers that share a component, move in the same
            direction (see `SpectralSnapshotCallback`).

    Raises:
        ParameterError: for a value that is not allowed.

    Example:
        >>> RunConfig(task="STS-B", method="lora", rank=4, seed=1).name
        'stsb-lora-r4-seed1'
        >>> RunConfig(task="cola", ranks=(8, 8, 8)).name
        'cola-msplora-8-8-8-seed0'
    """

    task: str
    method: str = "msplora"
    ranks: tuple[int, int, int] = (8, 4, 2)
    rank: int | None = None
    groups: int | tuple[int, ...] | None = None
    alpha: float | tuple[float, float, float] | None = None
    rslora: bool = False
    rank_pattern: dict[str, int | tuple[int, int, int]] | None = None
    init: str = "kaiming"
    dropout: float | None = None
    target_modules: tuple[str, ...] | None = None
    model: str | None = None
    data_dir: Path | str | None = None
    out: Path | str = "runs"
    seed: int = 0
    epochs: int = 10
    batch_size: int = 32
    micro_batch: int | None = None
    learning_rate: float = 4e-4
    warmup: float = 0.06
    weight_decay: float = 0.1
    max_length: int = 256
    max_train_examples: int | None = None
    random_labels: bool = False
    max_eval_examples: int | None = None
    loss_on_prompt: bool = False
    bf16: bool = False
    gradient_checkpointing: bool = False
    schedule: tuple[tuple[str, ...], ...] | None = None
    interference: bool = False
    plan: Path | str | None = None
    options: dict[str, Any] | None = None
    config: Path | str | None = None
    spectra_every: int = 1
    spectra_steps: int | None = None

    def __post_init__(self) -> None:
        task = task_named(self.task)
        object.__setattr__(self, "task", task.folder if task.instructions else task.name)
        object.__setattr__(self, "ranks", tuple(self.ranks))
        if isinstance(self.alpha, list):
            object.__setattr__(self, "alpha", tuple(self.alpha))
        if self.plan is not None:
            self._check_plan()
        self._take_method()
        check_ranks(self.ranks)
        alphas = self.alpha if isinstance(self.alpha, tuple) else (self.alpha,) if self.alpha is not None else ()
        if self.alpha is not None and (
            len(alphas) not in (1, len(SCALES)) or not all(0 < alpha < math.inf for alpha in alphas)
        ):
            raise ParameterError(
                "alpha", expected="one positive number, or three: global, mid, layer", found=self.alpha
            )
        if self.method != "msplora" and len(alphas) > 1:
            raise ParameterError("alpha", expected=f"one number for method {self.method}", found=self.alpha)
        if self.init not in INITIALISATIONS:
            raise ParameterError("init", expected=f"one of {', '.join(INITIALISATIONS)}", found=self.init)
        for ranks in (self.rank_pattern or {}).values():
            if isinstance(ranks, int) is (self.method == "msplora"):
                expected = "one rank a module type for LoRA, three for MSPLoRA"
                raise ParameterError("rank_pattern", expected=expected, found=ranks)
        whole = ("rank", "epochs", "batch_size", "micro_batch", "max_length", "max_train_examples", "max_eval_examples",
                 "spectra_every", "spectra_steps")  # fmt: skip
        for name in whole:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ParameterError(name, expected="at least 1", found=value)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ParameterError("dropout", expected="at least 0 and less than 1", found=self.dropout)
        if not (0 <= self.warmup < 1 or (self.warmup >= 1 and float(self.warmup).is_integer())):
            raise ParameterError("warmup", expected="a share of at least 0, or a whole number", found=self.warmup)
        if self.loss_on_prompt and not task.instructions:
            raise ParameterError("loss_on_prompt", expected="a file of instructions as task", found=task.name)
        if self.random_labels and task.instructions:
            raise ParameterError("random_labels", expected="a task with labels", found=task.folder)
        if not 0 < self.learning_rate < math.inf:
            raise ParameterError("learning_rate", expected="a positive number", found=self.learning_rate)
        if not 0 <= self.weight_decay < math.inf:
            raise ParameterError("weight_decay", expected="a number of at least 0", found=self.weight_decay)
        if not 0 <= self.seed < 2**32:
            raise ParameterError("seed", expected="0 to 4294967295", found=self.seed)
        if self.schedule is not None:
            self._check_schedule(self.schedule)

    def _take_method(self) -> None:
        """Fill in the method's defaults and check its options."""
        for name, value in self.method_entry.values.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.method == "peft":
            self.peft_fields()
        if self.options is not None:
            object.__setattr__(self, "options", checked_options(self.method_entry, self.options) or None)

    def peft_fields(self) -> dict[str, Any]:
        """Return the fields of the file `config`.

        Raises:
            ParameterError: if it is not given or cannot be read.
        """
        if self.config is None:
            raise ParameterError("config", expected="an adapter_config.json, for method peft", found="none")
        return peft_fields(self.config)

    @property
    def method_entry(self) -> Method:
        """The method's entry in the list of methods."""
        return method_named(self.method)

    def _check_plan(self) -> None:
        """Take the method and its ranks from the plan."""
        plan = self.rank_plan()
        for name in ("rank_pattern", "target_modules", "groups"):
            if getattr(self, name) is not None:
                raise ParameterError(name, expected="none beside a plan, which holds it", found=getattr(self, name))
        method = "msplora" if is_pyramid(plan) else "dora" if plan.flag("use_dora") else "lora"
        object.__setattr__(self, "method", method)
        if is_pyramid(plan):
            object.__setattr__(self, "ranks", tuple(plan.content["ranks"]))

    def rank_plan(self) -> PeftConfig:
        """Return the plan of this run.

        Raises:
            ParameterError: if there is none, or it cannot be read.
        """
        try:
            return read_rank_plan(str(self.plan).replace("{task}", self.task).replace("{seed}", str(self.seed)))
        except FileError as error:
            raise ParameterError(
                "plan", expected="the output of msplora-analyze plan --out", found=str(error)
            ) from error

    def _check_schedule(self, phases: tuple[tuple[str, ...], ...]) -> None:
        present = [scale for scale, rank in zip(SCALES, self.ranks, strict=True) if rank]
        if self.method != "msplora":
            raise ParameterError("schedule", expected="none, for a method without scales", found=phases)
        if not phases or not all(phase and set(phase) <= set(present) for phase in phases):
            raise ParameterError("schedule", expected=f"phases of the scales {', '.join(present)}", found=phases)
        if len(phases) > self.epochs:
            raise ParameterError("schedule", expected=f"at most {self.epochs} phases, one an epoch", found=phases)

    @property
    def method_name(self) -> str:
        """Name of the method with its ranks or plan: `lora-r8`, `msplora-8-4-2`, `lora-r8-random-labels`."""
        name = planned_name(self.method, self.plan) if self.plan is not None else self._plain_name()
        return f"{name}-{RANDOM_LABELS}" if self.random_labels else name

    def _plain_name(self) -> str:
        if self.method == "peft":
            return configured_name(self.peft_fields())
        options = self.options or {}
        kind = self.method.replace("lora", "dora") if options.get("use_dora") else self.method
        if self.method == "msplora":
            name = pyramid_name(self.ranks, kind)
        else:
            name = method_name(kind, [self.rank] if self.rank and "rank" in self.method_entry.settings else [])
        return of_layers(name, options.get("layers_to_transform"))

    @property
    def name(self) -> str:
        """The run directory's name."""
        return f"{task_named(self.task).name}-{self.method_name}-seed{self.seed}"

    @property
    def path(self) -> Path:
        """The run directory."""
        return Path(self.out) / self.name

    def hyperparameters(self) -> dict[str, Any]:
        """Return what run.json records: all settings but paths, model, task and seed."""
        values = asdict(self)
        for place in ("out", "data_dir", "model", "task", "seed"):
            del values[place]
        for name in METHOD_SETTINGS - {*self.method_entry.settings}:
            del values[name]
        if "config" in values:
            values["config"] = self.peft_fields()
        if self.plan is not None:  # record its content, not its path
            values["plan"] = plan_fields(self.rank_plan())
            for name in {"rank", "ranks", "alpha", "rslora"} & set(values):
                del values[name]
        return values


TYPES: dict[str, Any] = {name: kind for name, kind in get_type_hints(RunConfig).items() if name != "return"}
"""The type of each field of `RunConfig`."""
