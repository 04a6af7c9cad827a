"""Methods of PEFT, including MSPLoRA, configured from a run's settings."""

from __future__ import annotations

import re
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from msplora_core.errors import ParameterError
from msplora_core.formats.peft.plan_file import plan_fields
from msplora_core.training.attaching.attachment import Attachment
from msplora_core.training.models import model_label, packaged_model
from msplora_core.training.tasks import task_named

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

    from msplora_core.adapter.live_updates import LiveUpdates
    from msplora_core.training.run_config import RunConfig

_QUERY_AND_VALUE = {"distilbert": ("q_lin", "v_lin")}  # PEFT has no default for these


class PeftAttachment(Attachment):
    """A method whose options are a configuration of PEFT."""

    def attach(self, base: Any, steps: int) -> PeftModel:
        from peft import get_peft_model

        try:
            return get_peft_model(base, self.peft_config(base, steps))
        except ParameterError:
            raise
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:  # raised by PEFT
            if base.device.type == "meta" and "meta" in str(error):
                raise NotImplementedError("the method needs the weights to be attached") from error
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ParameterError(
                "method",
                expected="one that PEFT can attach to this model with these options",
                found=self.config.method_name,
                hint=f"PEFT says: {reason[0]}",
            ) from error

    def peft_config(self, base: Any, steps: int) -> PeftConfig:
        """Return the PEFT configuration of the run on a model.

        Args:
            base: the base model.
            steps: optimiser steps of the training.

        Raises:
            ParameterError: if the target modules, or those of a plan, match nothing.
        """
        method = self.config.method_entry
        shared = self._shared(base)
        if self.config.plan is not None:
            names = {method.settings[name]: name for name in ("dropout", "init")}
            shared = {option: shared[option] for option in names} | _planned(self.config, base)
        task_type = "CAUSAL_LM" if task_named(self.config.task).instructions else "SEQ_CLS"
        options = {"task_type": task_type, **shared, **method.fixed, **(self.config.options or {})}
        config: PeftConfig = resolve_name(method.options)(**options)
        return config

    def _shared(self, base: Any) -> dict[str, Any]:
        """The options of the method that are set by shared settings."""
        own = {
            "target_modules": None if self.config.plan else target_modules(self.config, base),
            "init": True if self.config.init == "kaiming" else self.config.init,
            "rank_pattern": self.config.rank_pattern or {},
        }
        settings = self.config.method_entry.settings
        return {option: own.get(name, getattr(self.config, name)) for name, option in settings.items()}

    def updates(self, model: Any) -> LiveUpdates:
        from msplora_core.adapter.live_updates import AdapterUpdates, NoUpdates

        reason = self.config.method_entry.no_spectra
        return NoUpdates(reason) if reason else AdapterUpdates(model)

    def configuration(self, model: Any) -> dict[str, Any]:
        found: dict[str, Any] = model.peft_config[model.active_adapter].to_dict()
        return found


def _planned(config: RunConfig, model: Any) -> dict[str, Any]:
    """The fields of a plan, if its modules and patterns are in the model."""
    fields = plan_fields(config.rank_plan())
    names = [name for name, _ in model.named_modules()]
    targets = fields["target_modules"]
    named = map(re.escape, targets) if isinstance(targets, list) else [targets] if targets != "all-linear" else []
    for key in [*named, *fields.get("rank_pattern", {}), *fields.get("alpha_pattern", {})]:
        if not any(re.fullmatch(rf"(.*\.)?({key})", name) for name in names):
            raise ParameterError(
                "plan", expected=f"modules of {model_label(config.model or packaged_model())}", found=key,
                hint="plan from a probe of the same model",
            )  # fmt: skip
    return fields


def target_modules(config: RunConfig, model: Any) -> list[str]:
    """Return the names of the modules that a run adapts, by default the model's query and value.

    Raises:
        ParameterError: if one is not in the model, or a rank is given for another module.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D  # linear, with its weight transposed: of GPT-2

    names = [name for name, module in model.named_modules() if isinstance(module, Linear | Conv1D)]
    kind = model.config.model_type
    defaults = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, _QUERY_AND_VALUE.get(kind, ()))
    targets = config.target_modules or defaults
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if missing or not targets:
        there = sorted({name.rsplit(".", 1)[-1] for name in names if "." in name})
        raise ParameterError(
            "target_modules",
            expected=f"linear modules of the model: {', '.join(there)}",
            found=", ".join(missing) or f"none, and no default for a model of type {kind}",
        )
    for name in config.rank_pattern or {}:
        if not any(f".{target}".endswith(f".{name}") for target in targets):
            raise ParameterError("rank_pattern", expected=f"ranks of {', '.join(targets)}", found=name)
    return list(targets)
