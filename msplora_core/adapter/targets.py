"""Find and check the modules and parameters that an adapter targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from msplora_core.adapter.config import MSPLoraConfig
from msplora_core.adapter.registration import PREFIX
from msplora_core.adapter.sizes import ADAPTABLE
from msplora_core.errors import ParameterError


def adaptable_paths(model: nn.Module) -> list[str]:
    """Return the paths of a model's modules, without those inside the layers of adapters."""
    inside = tuple(f"{path}." for path, module in model.named_modules() if path and isinstance(module, BaseTunerLayer))
    return [path for path, _ in model.named_modules() if path and not path.startswith(inside)]


def parameter_paths(model: nn.Module, names: Iterable[str] | None) -> list[str]:
    """Return the paths of the parameters that `target_parameters` names, as PEFT matches them.

    Args:
        model: with or without adapters; paths do not contain adapter layers.
        names: ends of paths.
    """
    endings = tuple(f".{name}" for name in names or ())
    paths = [_bare(path) for path, _ in model.named_parameters()] if endings else []
    return [path for path in paths if f".{path}".endswith(endings)]


def _bare(path: str) -> str:
    """The path of a parameter without adapter layers and torch's parametrizations."""
    return path.replace(".base_layer", "").replace("parametrizations.", "").removesuffix(".original")


def paths_in(state_dict: Iterable[str], config: MSPLoraConfig) -> set[str]:
    """Return the adapted modules from the keys of an adapter's state dict and its placement: not all have a key."""
    named = {key.rpartition(f".{PREFIX}")[0].removeprefix("_orig_mod.") for key in state_dict}
    return (named | set(config.placement or {})) - {""}


def check_tokens(model: nn.Module, config: MSPLoraConfig, paths: Iterable[str]) -> None:
    """Check that no embedding is both a target and has trainable tokens.

    Raises:
        ParameterError: otherwise.
    """
    tokens = config.trainable_token_indices
    for path in paths if tokens is not None else ():
        if isinstance(tokens, dict):
            both = any(f".{path}".endswith(f".{name}") for name in tokens)
        else:
            words: Any = getattr(model, "get_input_embeddings", lambda: None)()
            both = model.get_submodule(path) is words
        if both:
            raise ParameterError(
                "trainable_token_indices",
                expected="an embedding that is not in target_modules",
                found=f"{path}, a target",
            )


def check_parameters(config: MSPLoraConfig, others: Mapping[str, MSPLoraConfig]) -> None:
    """Check that all adapters of a model that target parameters target the same ones.

    Their layers are nested in one order for all adapters, so that each adapter can be loaded without the others.

    Raises:
        ParameterError: otherwise.
    """
    for name, other in others.items():
        if config.target_parameters and other.target_parameters not in (None, config.target_parameters):
            raise ParameterError(
                "target_parameters",
                expected=f"those of the adapter {name}: {', '.join(sorted(other.target_parameters))}",
                found=", ".join(sorted(config.target_parameters)),
            )


def unmatched(model: nn.Module, config: MSPLoraConfig) -> ParameterError:
    """Return the error for targets that match nothing, with the names that the model has."""
    if config.target_parameters and not config.target_modules:
        field, known = "target_parameters", _parameter_names(model)
    else:
        field, known = "target_modules", _module_names(model)
    return ParameterError(field, expected=f"names of this model: {known}", found=getattr(config, field))


def _module_names(model: nn.Module) -> str:
    names = {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, ADAPTABLE)}
    return ", ".join(sorted(name for name in names if not name.isdecimal())) or "none can be adapted"


def _parameter_names(model: nn.Module) -> str:
    names = {
        ".".join(path.split(".")[-2:]) for path, parameter in model.named_parameters() if parameter.dim() in (2, 3)
    }
    return ", ".join(sorted(names)) or "none can be adapted"
