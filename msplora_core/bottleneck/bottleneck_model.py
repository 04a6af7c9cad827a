"""The tuner that attaches bottleneck adapters to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from msplora_core.adapter.sites import layer_lists
from msplora_core.bottleneck.bottleneck_config import NAME, BottleneckConfig
from msplora_core.bottleneck.bottleneck_layer import BottleneckLayer
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.placement import outermost

_OF_BERT = ["attention.output.dense", "output.dense"]
_OF_LLAMA = ["self_attn.o_proj", "mlp.down_proj"]
OUTPUT_PROJECTIONS = (
    dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta", "deberta-v2"), _OF_BERT)
    | {"distilbert": ["attention.out_lin", "ffn.lin2"]}
    | dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "smollm3"), _OF_LLAMA)
)
"""Output projections of attention and feed-forward network, by model type."""


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters, created by `peft.get_peft_model`; see `BottleneckConfig`."""

    if TYPE_CHECKING:  # attributes of PEFT's base class

        def __getattr__(self, name: str) -> Any: ...

    prefix = f"{NAME}_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping = OUTPUT_PROJECTIONS

    def _prepare_adapter_config(self, config: BottleneckConfig, model_config: dict[str, Any]) -> BottleneckConfig:
        if config.target_modules is None and model_config["model_type"] not in OUTPUT_PROJECTIONS:
            raise ParameterError(
                "target_modules",
                expected="the output projections of attention and feed-forward network, as in "
                f"{', '.join(_OF_BERT)} of BERT",
                found=f"none, and no default for a model of type {model_config['model_type']}",
            )
        prepared: BottleneckConfig = super()._prepare_adapter_config(config, model_config)
        return prepared

    def _prepare_model(self, config: BottleneckConfig, model: nn.Module) -> None:
        """Add the norms of the adapted layers to the modules that PEFT trains and saves in full."""
        adapted = [path for path, _ in model.named_modules() if self._check_target_module_exists(config, path)]
        if not adapted:
            there = {path.rpartition(".")[2] for path, module in model.named_modules() if _is_linear(module)}
            layers = "" if config.layers_to_transform is None else f" in layers {config.layers_to_transform}"
            raise ParameterError(
                "target_modules",
                expected=f"linear modules of the model: {', '.join(sorted(there))}",
                found=f"{', '.join(sorted(config.target_modules or ()))}{layers}, which match none",
            )
        if not config.train_layer_norms:
            return
        lists = layer_lists(model)
        blocks = tuple({block for path in adapted if (block := _block(path, lists))})
        norms = [
            path.removesuffix(".original_module")  # if another adapter trains it, too
            for path, module in model.named_modules()
            if path.startswith(blocks) and _is_norm(module) and ".modules_to_save." not in path
        ]
        config.modules_to_save = list(dict.fromkeys([*(config.modules_to_save or []), *norms]))

    def _create_and_replace(
        self,
        config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not _is_linear(base):
            raise ParameterError(
                "target_modules", expected="linear modules", found=f"{current_key}, a {type(base).__name__}"
            )
        layer = target if isinstance(target, BottleneckLayer) else BottleneckLayer(target, adapter_name)
        layer.add_adapter(adapter_name, config)
        if layer is not target:
            if adapter_name not in self.active_adapters:  # it trains when it is made active
                layer.requires_grad_(False)
            setattr(parent, target_name, layer)

    def _check_merge_allowed(self) -> None:
        raise UnsupportedAdapterError("bottleneck adapters: the update depends on the input, so it cannot be merged")


def _block(path: str, lists: dict[str, int]) -> str | None:
    """The path of a module's layer, with a final dot; None outside any list of layers."""
    outer = outermost(path, lists)
    return None if outer is None else f"{outer}.{path[len(outer) + 1 :].partition('.')[0]}."


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
