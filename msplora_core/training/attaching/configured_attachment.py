"""Any method of PEFT, configured by an adapter_config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msplora_core.adapter.live_updates import AdapterUpdates, LiveUpdates, NoUpdates
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.training.attaching.peft_attachment import PeftAttachment, target_modules
from msplora_core.training.method_options import option_names, peft_fields
from msplora_core.training.tasks import task_named

if TYPE_CHECKING:
    from peft import PeftConfig


_OTHER_TARGETS = {"LN_TUNING", "TRAINABLE_TOKENS"}  # by default norms, embeddings


class ConfiguredAttachment(PeftAttachment):
    """The method of a configuration file, on the modules of the run or the file."""

    def peft_config(self, base: Any, steps: int) -> PeftConfig:
        from peft import get_peft_config

        fields = peft_fields(str(self.config.config))
        if fields["peft_type"] == "TRAINABLE_TOKENS" and not fields.get("token_indices"):  # PEFT fails in training
            raise ParameterError("config: token_indices", expected="the indexes of tokens to train", found="none")
        types = option_names(fields["peft_type"])
        named = "target_modules" in fields or fields["peft_type"] in _OTHER_TARGETS
        if "target_modules" in types and (self.config.target_modules or not named):
            fields["target_modules"] = target_modules(self.config, base)
            if "feedforward_modules" in types:  # IA3 scales the input of these, not the output
                fields.setdefault("feedforward_modules", [])
        fields["task_type"] = "CAUSAL_LM" if task_named(self.config.task).instructions else "SEQ_CLS"
        return get_peft_config(fields)

    def updates(self, model: Any) -> LiveUpdates:
        updates = AdapterUpdates(model)
        try:
            updates.components()[0].update.singular_values()
        except (ParameterError, UnsupportedAdapterError, IndexError):
            return NoUpdates("PEFT cannot write its update as a change of a weight")
        return updates
