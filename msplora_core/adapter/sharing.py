"""Hooks that store each shared component once in a state dict.

A module that several layers share appears in `state_dict()` once for each of them. The hooks keep the first name of
each component, drop the others, and remove those from the missing keys on loading. They are registered on the model,
so that PEFT, the Trainer, `state_dict` and `load_state_dict` all use them.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from msplora_core.adapter.factors import Factors


def save_shared_once(model: nn.Module) -> None:
    """Make a model's state dicts hold each component once; idempotent."""
    hooked: Any = model  # torch leaves these two methods without types
    if _leave_first_names not in model._state_dict_hooks.values():
        hooked._register_state_dict_hook(_leave_first_names)
        hooked.register_load_state_dict_post_hook(_miss_first_names_only)


def save_shared_as_usual(model: nn.Module) -> None:
    """Remove the hooks from a model without adapters."""
    for hooks in (model._state_dict_hooks, model._load_state_dict_post_hooks):
        for key in [key for key, hook in hooks.items() if hook in (_leave_first_names, _miss_first_names_only)]:
            del hooks[key]


def _further_names(model: nn.Module) -> set[str]:
    """Names of the components' factors, without the first name of each."""
    seen: set[int] = set()
    further = set()
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Factors):
            if id(module) in seen:
                further |= {f"{path}.A", f"{path}.B"}
            seen.add(id(module))
    return further


def _leave_first_names(model: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in _further_names(model):
        state.pop(prefix + name, None)


def _miss_first_names_only(model: nn.Module, outcome: Any) -> None:
    further = _further_names(model)
    # Names in the outcome start at the loaded module, which may contain this model.
    outcome.missing_keys[:] = [
        name for name in outcome.missing_keys if not any(end in further for end in _endings(name))
    ]


def _endings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]
