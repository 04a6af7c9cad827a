"""The tuner that attaches MSPLoRA to a model, like `peft.LoraModel` for LoRA."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

from msplora_core.adapter.combining import Ranks, check_request, combined_config, combined_ranks, fill, parts_of
from msplora_core.adapter.config import MSPLoraConfig
from msplora_core.adapter.factors import Factors
from msplora_core.adapter.kinds import Convolution, Embedding, Linear
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.adapter.parameter_layer import ParamWrapper
from msplora_core.adapter.registration import PREFIX
from msplora_core.adapter.sharing import save_shared_as_usual, save_shared_once
from msplora_core.adapter.sites import Site, plan_sites
from msplora_core.adapter.sizes import CONVOLUTIONS
from msplora_core.adapter.targets import (
    adaptable_paths,
    check_parameters,
    check_tokens,
    parameter_paths,
    paths_in,
    unmatched,
)
from msplora_core.adapter.trainable_scales import set_trainable_scales
from msplora_core.errors import ParameterError

NEWER_PEFT = "install peft>=0.21"


class MSPLoraModel(BaseTuner):
    """A model with MSPLoRA adapters, created by `peft.get_peft_model`; see `MSPLoraConfig`."""

    if TYPE_CHECKING:  # attributes of PEFT's base class

        def __getattr__(self, name: str) -> Any: ...

    prefix = PREFIX
    tuner_layer_cls = MSPLoraLayer
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def inject_adapter(
        self, model: nn.Module, adapter_name: str, *args: Any, state_dict: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Attach an adapter. PEFT matches the modules; a plan, made at the first match, assigns their components."""
        config = self.peft_config[adapter_name]
        if config.bias != "none" and not hasattr(BaseTuner, "_get_learnable_bias_state_dict"):
            raise ParameterError(
                "bias", expected="none, since this version of PEFT does not save it", found=config.bias, hint=NEWER_PEFT
            )
        self._sites: dict[str, Site] | None = None
        self._components: dict[tuple[str, str, int], Factors] = {}
        check_parameters(config, {name: other for name, other in self.peft_config.items() if name != adapter_name})
        self._given_paths = None if state_dict is None else paths_in(state_dict, config)
        if self._given_paths is not None:
            state_dict = dict.fromkeys(f"{path}.{PREFIX}" for path in self._given_paths)
        try:
            super().inject_adapter(model, adapter_name, *args, state_dict=state_dict, **kwargs)
        except IndexError as error:
            tokens = config.trainable_token_indices
            if tokens is None:
                raise
            raise ParameterError(
                "trainable_token_indices", expected="indices of tokens that the embedding has", found=tokens
            ) from error
        except ValueError as error:
            none_found = any(words in str(error) for words in ("not found in the base", "no `target_parameters` found"))
            if self._sites is None and config.layers_to_transform is None and none_found:
                raise unmatched(model, config) from error
            raise
        finally:
            self._components = {}
        layers = {path: layer for path, layer in self.model.named_modules() if isinstance(layer, MSPLoraLayer)}
        config.placement = {
            path: layer.site[adapter_name].record() for path, layer in layers.items() if adapter_name in layer.site
        }
        save_shared_once(model)

    def _prepare_adapter_config(self, peft_config: MSPLoraConfig, model_config: dict[str, Any]) -> MSPLoraConfig:
        known = model_config.get("model_type") in self.target_module_mapping
        if peft_config.target_modules is None and peft_config.target_parameters and not known:
            peft_config.target_modules = []  # parameters only
        config: MSPLoraConfig = super()._prepare_adapter_config(peft_config, model_config)
        return config

    def _plan(self, config: MSPLoraConfig) -> dict[str, Site]:
        """The sites of all modules that PEFT will visit. PEFT has resolved `target_modules` before."""
        paths = [
            path
            for path in adaptable_paths(self.model)
            if (
                self._check_target_module_exists(config, path)
                if self._given_paths is None
                else path in self._given_paths
            )
        ]
        check_tokens(self.model, config, paths)
        return plan_sites(self.model, paths, config, parameter_paths(self.model, config.target_parameters))

    def _create_and_replace(
        self,
        config: MSPLoraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if self._sites is None:
            self._sites = self._plan(config)
        site = self._sites[current_key]
        if isinstance(target, MSPLoraLayer) and getattr(target, "parameter_name", None) == parameter_name:
            layer = target
        else:
            layer = self._new_layer(target, adapter_name, parameter_name)
        config.fan_in_fan_out |= isinstance(layer.get_base_layer(), Conv1D)
        components = {scale: self._component(site, scale, layer, config) for scale in site.rank}
        layer.add_adapter(adapter_name, site, components, config.lora_dropout, config.use_dora, config.inference_mode)
        if layer is not target:
            if adapter_name not in self.active_adapters:  # it trains when it is made active
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

    @staticmethod
    def _new_layer(target: nn.Module, adapter_name: str, parameter_name: str | None) -> MSPLoraLayer:
        if parameter_name is not None:
            return ParamWrapper(target, adapter_name, parameter_name)
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if isinstance(base, CONVOLUTIONS):
            return Convolution(target, adapter_name)
        return (Embedding if isinstance(base, nn.Embedding) else Linear)(target, adapter_name)

    def _component(self, site: Site, scale: str, layer: MSPLoraLayer, config: MSPLoraConfig) -> Factors:
        """The component that serves a site at a scale, created for its first site."""
        key = (scale, site.module, site.unit(scale))
        if key not in self._components:
            factors = Factors(site.rank[scale], site.sizes)
            factors.initialise(config.init_lora_weights, zero_first=isinstance(layer, Embedding))
            self._components[key] = factors
        return self._components[key]

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Replace a module; `add_adapter` has already moved the components to its device."""
        setattr(parent, child_name, new_module)

    def set_trainable_scales(self, scales: Iterable[str], adapter_name: str | None = None) -> None:
        """Train an adapter at some scales only; see the function `set_trainable_scales`."""
        set_trainable_scales(self.model, scales, adapter_name)

    def add_weighted_adapter(
        self,
        adapters: list[str],
        weights: list[float],
        adapter_name: str,
        combination_type: str = "svd",
        svd_rank: Ranks | None = None,
        **unsupported: Any,
    ) -> None:
        """Add an adapter that is the weighted sum of others, scale by scale, so that layers still share components.

        The new adapter is neither active nor trainable before `set_adapter`.

        Args:
            adapters: names of adapters with the same groups and layers.
            weights: one for each, positive or negative.
            adapter_name: name of the new adapter.
            combination_type: "cat": exact, the ranks of each scale add up. "svd": each component is the best
                approximation of its weighted sum, at `svd_rank`. "linear": factors are added up, a rough
                approximation; equal ranks only.
            svd_rank: ranks of (global, mid, layer) for "svd"; the highest of each scale by default.
            unsupported: options of LoRA's other combination types, refused by name.

        Raises:
            ParameterError: for an adapter, weight, name or combination that does not fit.
        """
        check_request(self.peft_config, adapters, weights)
        if adapter_name in self.peft_config:
            raise ParameterError("adapter_name", expected="a new name", found=adapter_name)
        layers = [module for module in self.model.modules() if isinstance(module, MSPLoraLayer)]
        ranks = combined_ranks(combination_type, [_highest_ranks(layers, name) for name in adapters], svd_rank)
        if unsupported:
            raise ParameterError(
                next(iter(unsupported)), expected=f"no such option for {combination_type}", found=unsupported
            )
        config = combined_config([self.peft_config[name] for name in adapters], ranks)
        self._given_paths = None
        sites = self._plan(config)
        parts = parts_of(self.model, sites, adapters, weights)
        self.peft_config[adapter_name] = config
        self.inject_adapter(self.model, adapter_name)
        for path, site in sites.items():
            for scale in site.rank:
                found = parts.pop((scale, site.module, site.unit(scale)), None)
                if found is not None:
                    fill(self.model.get_submodule(path).components(scale)[adapter_name], combination_type, found)

    def _unload_and_optionally_merge(self, *args: Any, **kwargs: Any) -> nn.Module:
        model: nn.Module = super()._unload_and_optionally_merge(*args, **kwargs)
        save_shared_as_usual(model)
        return model

    @contextmanager
    def _enable_peft_forward_hooks(
        self, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any
    ) -> Iterator[None]:
        """For a mixed batch, pass `adapter_names` to each layer during one forward pass."""
        if adapter_names is None:
            yield
            return
        self._check_adapter_names(adapter_names)
        beams = kwargs.get("num_beams") or 1
        encoder = self.model.get_encoder() if beams > 1 and hasattr(self.model, "get_encoder") else None
        # The encoder receives each item once, all other modules once per beam.
        once = set() if encoder in (None, self.model) else set(encoder.modules())
        repeated = [name for name in adapter_names for _ in range(beams)]
        handles = [
            module.register_forward_pre_hook(
                partial(_pass_adapter_names, adapter_names=adapter_names if module in once else repeated),
                with_kwargs=True,
            )
            for module in self.modules()
            if isinstance(module, MSPLoraLayer | AuxiliaryTrainingWrapper)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check_adapter_names(self, adapter_names: list[str]) -> None:
        if self.training:
            raise ValueError("Cannot pass `adapter_names` when the model is in training mode.")
        unknown = set(adapter_names) - set(self.peft_config) - {"__base__"}
        if unknown:
            raise ValueError(f"Trying to infer with non-existing adapter(s): {', '.join(sorted(unknown))}")


def _highest_ranks(layers: Iterable[MSPLoraLayer], adapter_name: str) -> Ranks:
    """The highest rank of each scale among an adapter's layers."""
    ranks = [layer.site[adapter_name].ranks for layer in layers if adapter_name in layer.site]
    wide, mid, own = (max(scale) for scale in zip(*ranks, strict=True))
    return wide, mid, own


def _pass_adapter_names(module: nn.Module, args: Any, kwargs: Any, adapter_names: list[str]) -> tuple[Any, Any]:
    return args, kwargs | {"adapter_names": adapter_names}
