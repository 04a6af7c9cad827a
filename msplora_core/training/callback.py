"""The callback that records spectra and metrics while any Trainer trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from msplora_core.components import Component, component_spectra, factor_spectra, layer_inner_products
from msplora_core.errors import DivergenceError, ParameterError
from msplora_core.methods import configured_name
from msplora_core.pyramid import Pyramid
from msplora_core.runs import RunDirectory, RunRecord, Snapshot
from msplora_core.training.models import model_label

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import TrainerControl, TrainerState, TrainingArguments

_PACKAGES = ("msplora", "torch", "transformers", "peft", "numpy")


class SpectralSnapshotCallback(TrainerCallback):
    """Records the spectrum of every component before the first step and at each epoch's end.

    Works in any `transformers.Trainer` whose model carries a PEFT LoRA or MSPLoRA adapter. Writes the run
    directory that `msplora-analyze svd` and `load_spectra` read: run.json unless there is one, a snapshot
    an epoch, and the Trainer's log as metrics.jsonl. Only the main process writes.

    Args:
        run_dir: the run directory, made if need be.

    Raises:
        ParameterError: when training begins, if the model has no such adapter.
        DivergenceError: at an epoch's end, if the adapter's weights are not finite.

    Example:
        trainer = Trainer(model, args, train_dataset=data, callbacks=[SpectralSnapshotCallback("runs/mine")])
    """

    def __init__(self, run_dir: str | PathLike[str] | RunDirectory) -> None:
        self.run = run_dir if isinstance(run_dir, RunDirectory) else RunDirectory(run_dir)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        if not self.run.record_path.is_file():
            record = describe_run(model)
            record.seed = args.seed
            record.hyperparameters = {
                "epochs": args.num_train_epochs,
                "learning_rate": args.learning_rate,
                "weight_decay": args.weight_decay,
                "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            }
            self.run.write_record(record)
        if state.global_step == 0:
            self._snapshot(0, state, model)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._snapshot(round(state.epoch or 0), state, model)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            event = {"step": state.global_step, **logs}
            self.run.append_metrics({name: _plain(value) for name, value in event.items()})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            record = self.run.read_record()
            record.finished = now()
            self.run.write_record(record)

    def _snapshot(self, epoch: int, state: TrainerState, model: Any) -> None:
        from msplora_core.adapter import read_components

        components = read_components(model)
        try:
            spectra = component_spectra(components)
            factor_A, factor_B = factor_spectra(components)
            inner = layer_inner_products(components)
        except ParameterError as error:
            raise DivergenceError(
                f"{self.run.path}: the adapter's weights are not finite after epoch {epoch}, step {state.global_step}: "
                "the run stops, what it recorded stays; a lower learning rate may help"
            ) from error
        self.run.write_snapshot(Snapshot(epoch, state.global_step, spectra, factor_A, factor_B, inner))


def describe_run(model: Any) -> RunRecord:
    """What can be told of a run from its model alone: method, base model, components, versions.

    Args:
        model: with a PEFT LoRA or MSPLoRA adapter.
    """
    from msplora_core.adapter import read_components

    components = read_components(model)
    config = _active_config(model)
    layers = {component.key.unit for component in components if component.key.scale in ("layer", "total")}
    return RunRecord(
        method=configured_name(config.to_dict()),
        model=model_label(config.base_model_name_or_path or getattr(model.config, "_name_or_path", "")),
        layers=max(layers, default=-1) + 1,
        modules=list(dict.fromkeys(component.key.module for component in components)),
        components=list_components(components, config),
        configuration=config.to_dict(),
        versions=_versions(),
        started=now(),
    )


def list_components(components: list[Component], config: PeftConfig) -> list[dict[str, Any]]:
    """The component list of run.json: key, rank, shape and the layers that each serves."""
    layers: dict[str, list[int]] = {}
    for component in components:
        units = layers.setdefault(component.key.module, [])
        if component.key.scale in ("layer", "total") and component.key.unit not in units:
            units.append(component.key.unit)
    return [
        {
            "key": str(component.key),
            "rank": component.update.rank,
            "shape": list(component.update.shape),
            "layers": _served(component, layers.get(component.key.module, []), config),
        }
        for component in components
    ]


def _served(component: Component, layers: list[int], config: PeftConfig) -> list[int]:
    key = component.key
    if key.scale in ("layer", "total"):
        return [key.unit]
    if key.scale == "global":
        return layers
    pyramid = Pyramid(max(layers) + 1, (1, 1, 1), config.groups)
    return [layer for layer in pyramid.members("mid", key.unit) if layer in layers]


def _active_config(model: Any) -> PeftConfig:
    active = getattr(model, "active_adapter", None)
    return model.peft_config[active if isinstance(active, str) else next(iter(model.peft_config))]


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def now() -> str:
    """The time, as run.json has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    """A value that strict JSON can hold: null for what is not finite."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
