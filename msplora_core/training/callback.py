"""The callback that records spectra and metrics during any Trainer's training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerCallback

from msplora_core.adapter.live_updates import AdapterUpdates, LiveUpdates
from msplora_core.checkup.finding import summarised, worst_first
from msplora_core.checkup.spectra_check import spectra_findings
from msplora_core.components import Component, factored_spectra, layer_inner_products
from msplora_core.errors import DivergenceError, ParameterError, RunDirectoryError
from msplora_core.runs import RunDirectory, Snapshot
from msplora_core.training.cost import CostMeter
from msplora_core.training.describing import describe_run, now
from msplora_core.training.interference import EVERY_N_STEPS, InterferenceRecorder
from msplora_core.training.resuming import continue_at, earlier_records, forget_after
from msplora_core.training.same_training import check_record, check_spectra
from msplora_core.training.shown import SHOWN, TrainingAlert, scale_measures, trainer_of

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


class SpectralSnapshotCallback(TrainerCallback):
    """Record the spectrum of every component before the first step and at the end of each epoch.

    Works in any `transformers.Trainer` whose model has an adapter of PEFT, also with several processes and with
    sharded parameters. Writes the run directory that `msplora-analyze svd` and `load_spectra` read: run.json unless
    there is one, a snapshot an epoch, and the Trainer's log as metrics.jsonl. Only the main process writes. A last,
    incomplete epoch counts as a whole one: 2.5 epochs give the snapshots 0, 1, 2 and 3. A training that is resumed
    from a checkpoint continues in the same folder.

    Measures of every snapshot also go to the Trainer's log, and so to what `report_to` names (TensorBoard, Weights &
    Biases, MLflow), as `spectra/<scale>/<measure>`: means of `entropy_rank`, `m_eff_1`, `stable_rank` and `norm` over
    the scale's components that are not zero.

    Args:
        run_dir: the run directory; created if missing.
        every_n_steps: also record a snapshot within epochs, every n optimiser steps.
        every_n_epochs: record a snapshot only every n epochs, and after the last.
        task: name of the task, for run.json.
        model: the base model's name, for run.json; by default from the adapter's configuration.
        overwrite: delete run.json, metrics and snapshots in the folder, unless training resumes, instead of refusing
            the folder.
        interference: also record whether the scales of MSPLoRA, and the layers that share a component, move in the
            same direction (see `InterferenceRecorder`): at every 10th optimiser step if True, at every n-th if a
            number. Each snapshot holds mean and standard deviation over the recorded steps of its epoch.
        alerts: warn once, with the epoch, for each kind of defect: an update explodes, a scale stays zero, or an
            update collapses to rank 1.
        updates: reads the weight updates of the model; by default those of its adapter.

    Raises:
        ParameterError: if `every_n_steps` or `interference` is below 1, or, when training begins, the model has no
            adapter.
        RunDirectoryError: when training begins, if the folder holds records of an earlier training; when it resumes,
            if they are of another training: other seed, components or ranks, or other spectra at the same step.
        DivergenceError: at a snapshot, if the adapter's weights are not finite.

    Example:
        Trainer(model, args, train_dataset=data, callbacks=[SpectralSnapshotCallback("runs/mine", alerts=True)])
    """

    def __init__(
        self,
        run_dir: str | PathLike[str] | RunDirectory,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        task: str = "",
        model: str | None = None,
        overwrite: bool = False,
        interference: bool | int = False,
        alerts: bool = False,
        updates: LiveUpdates | None = None,
    ) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("every_n_epochs", every_n_epochs)):
            if value is not None and value < 1:
                raise ParameterError(name, expected="at least 1", found=value)
        if interference is not False and interference < 1:
            raise ParameterError("interference", expected="True, False, or at least 1", found=interference)
        self.run = run_dir if isinstance(run_dir, RunDirectory) else RunDirectory(run_dir)
        self.every_n_epochs = every_n_epochs
        self.every_n_steps, self.task, self.model, self.overwrite = every_n_steps, task, model, overwrite
        self.interference_every = EVERY_N_STEPS if interference is True else int(interference)
        self.interference: InterferenceRecorder | None = None
        self.alerts, self._told = alerts, set[str]()
        self.updates = updates
        self._trainer: Trainer | None = None
        self._last_step = -1  # of the last snapshot at the end of an epoch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self._trainer, self._last_step = trainer_of(self), -1
        updates = self._updates(model)
        components = updates.components()
        self.interference = InterferenceRecorder(model) if self.interference_every else None
        if not state.is_world_process_zero:
            return
        self._cost = CostMeter(model)
        if not state.global_step:
            self._claim()
        record = describe_run(model, updates, components)
        record.seed = args.seed
        if self.run.record_path.is_file():
            check_record(self.run, record)
        if state.global_step:
            check_spectra(self.run, state.global_step, self._measure(state.epoch or 0, state, components).spectra)
            continue_at(self.run, state.global_step, state.epoch or 0)
        if not self.run.record_path.is_file():
            record.task, record.model = self.task, self.model or record.model
            record.hyperparameters = {
                "epochs": args.num_train_epochs,
                "learning_rate": args.learning_rate,
                "weight_decay": args.weight_decay,
                "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            }
            self.run.write_record(record)
        if not state.global_step:
            self._record(0, state, components, control)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.interference:
            self.interference.forget()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        every = self.interference_every  # the middle step of each interval, since the first step is nearly zero
        if self.interference and state.global_step % every == every // 2:
            self.interference.watch()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.interference:
            self.interference.before_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.interference:
            self.interference.after_step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        within = not float(state.epoch or 0).is_integer()  # each epoch ends with a snapshot
        if self.every_n_steps and within and state.global_step % self.every_n_steps == 0:
            self._record(state.epoch or 0, state, self._updates(model).components(), control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if math.ceil(state.epoch or 0) % self.every_n_epochs == 0 or state.global_step >= state.max_steps:
            self._end_epoch(state, model, control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        # The Trainer's last log. After it, `load_best_model_at_end` replaces the weights.
        if "total_flos" in logs and state.global_step > self._last_step:
            self._end_epoch(state, model, control)
        recorded = {name: value for name, value in logs.items() if not name.startswith(SHOWN)}  # snapshots have these
        if state.is_world_process_zero and recorded.keys() - {"epoch"}:
            self.run.append_metrics({"step": state.global_step, **recorded})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            record = self.run.read_record()
            record.finished, record.cost = now(), self._cost.read()
            self.run.write_record(record)
        self._trainer = None

    def _updates(self, model: Any) -> LiveUpdates:
        return self.updates or AdapterUpdates(model)

    def _claim(self) -> None:
        """Check or clear the folder for a new training."""
        if self.overwrite:
            forget_after(self.run, -1)
            self.run.record_path.unlink(missing_ok=True)
        elif found := earlier_records(self.run):
            raise RunDirectoryError(
                self.run.path,
                expected="a folder without records of an earlier training",
                found=found,
                hint="resume from its checkpoint, use another folder, or delete them with overwrite=True",
            )

    def _end_epoch(self, state: TrainerState, model: Any, control: TrainerControl) -> None:
        epoch = state.epoch or 0
        self._record(math.ceil(epoch), state, self._updates(model).components(), control)
        self._last_step = state.global_step
        if state.is_world_process_zero and not float(epoch).is_integer():
            self.run.snapshot_path(epoch, state.global_step).unlink(missing_ok=True)  # of the same step

    def _record(self, epoch: float, state: TrainerState, components: list[Component], control: TrainerControl) -> None:
        if not state.is_world_process_zero:
            return
        snapshot = self._measure(epoch, state, components)
        self.run.write_snapshot(snapshot)
        if state.global_step and self.alerts:
            self._alert(epoch, snapshot.spectra)
        if self._trainer is not None and state.global_step:
            wanted = control.should_log  # logging resets it, and then the loss of this step would not be logged
            self._trainer.log(scale_measures(snapshot.spectra))
            control.should_log = wanted

    def _measure(self, epoch: float, state: TrainerState, components: list[Component]) -> Snapshot:
        try:
            found = factored_spectra(components)
            inner = layer_inner_products(components)
        except ParameterError as error:
            raise DivergenceError(
                f"{self.run.path}: the adapter's weights are not finite after epoch {epoch:.4g}, "
                f"step {state.global_step}: the run stops, and its records are kept; try a lower learning rate"
            ) from error
        watched = self.interference
        between = (watched.between_scales(), watched.between_layers()) if watched else ({}, {})
        return Snapshot(epoch, state.global_step, found.spectra, found.factor_A, found.factor_B, inner, *between)

    def _alert(self, epoch: float, spectra: Mapping[str, NDArray[np.float64]]) -> None:
        """Warn of new kinds of defects."""
        found = [one for one in spectra_findings(spectra) if one.severity != "note" and one.kind not in self._told]
        self._told |= {one.kind for one in found}
        for text in summarised(worst_first(found)):
            warnings.warn(f"{self.run.path}: epoch {epoch:.4g}: {text}", TrainingAlert, stacklevel=2)
