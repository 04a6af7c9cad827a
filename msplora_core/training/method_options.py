"""The options of a method beyond the settings that methods share: which there are, and whether values fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pkgutil import resolve_name
from typing import Any, get_type_hints

from msplora_core.errors import ParameterError
from msplora_core.method_list import Method
from msplora_core.typed_values import convert, described

_SET_BY_TRAINING = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "runtime_config",
}  # fmt: skip


def option_types(method: Method) -> dict[str, Any]:
    """Return the types of all options of a method by name, without those that a training or a shared setting sets.

    Example:
        >>> from msplora_core.method_list import METHODS
        >>> option_types(METHODS["lora"])["lora_bias"]
        <class 'bool'>
    """
    if not method.options:
        return {}
    options = resolve_name(method.options)
    types = get_type_hints(options)
    taken = _SET_BY_TRAINING | {*method.fixed, *method.settings.values()}
    return {one.name: types[one.name] for one in fields(options) if one.name not in taken}


def checked_options(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a method with lists as its types have them.

    Raises:
        ParameterError: for an option that it does not have, with the nearest, or a value of another type.

    Example:
        >>> from msplora_core.method_list import METHODS
        >>> checked_options(METHODS["lora"], {"use_dorra": True})
        Traceback (most recent call last):
        msplora_core.errors.ParameterError: options: expected an option of lora, found use_dorra; the nearest is use_dora
    """  # noqa: E501 - the error is one line
    types = option_types(method)
    shared = {option: setting for setting, option in method.settings.items()}
    checked = {}
    for name, value in options.items():
        if name in shared:
            raise ParameterError("options", expected=f"the setting {shared[name]} in its place", found=name)
        if name not in types:
            near = get_close_matches(name, types, n=1, cutoff=0.5)
            hint = f"the nearest is {near[0]}" if near else f"it has {', '.join(types) or 'none'}"
            raise ParameterError("options", expected=f"an option of {method.name}", found=name, hint=hint)
        try:
            checked[name] = convert(value, types[name])
        except TypeError:
            raise ParameterError(f"options: {name}", expected=described(types[name]), found=value) from None
    return checked
