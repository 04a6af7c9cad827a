"""The options of a method besides shared settings: names, types and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_type_hints

from msplora_core.errors import FileError, ParameterError, nearest
from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.method_list import Method
from msplora_core.typed_values import convert, described

_SET_BY_TRAINING = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "runtime_config",
}  # fmt: skip


def peft_fields(path: str | Path) -> dict[str, Any]:
    """Return `peft_type` and the options of the method from an `adapter_config.json`.

    Raises:
        ParameterError: if there is none, its method is unknown to PEFT, or a field is unknown or of another type.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    try:
        config = PeftConfig.read(Path(path))
    except FileError as error:
        raise ParameterError("config", expected="an adapter_config.json of PEFT", found=str(error)) from error
    kinds = {kind.value: options for kind, options in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if config.peft_type not in kinds:
        found, hint = config.peft_type or "none", nearest(config.peft_type, kinds)
        raise ParameterError(f"config: {path}: peft_type", expected="a method of PEFT", found=found, hint=hint)
    given = {name: one for name, one in config.content.items() if name not in _SET_BY_TRAINING and one is not None}
    types = get_type_hints(kinds[config.peft_type])
    return {"peft_type": config.peft_type, **_converted(f"config: {path}", config.peft_type, given, types)}


def option_names(peft_type: str) -> set[str]:
    """Return the names of all options of a method of PEFT."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return {one.name for one in fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)])}


def option_types(method: Method) -> dict[str, Any]:
    """Return the types of a method's options by name, without those that the training or a shared setting sets.

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
    """Return options of a method, converted to its types.

    Raises:
        ParameterError: for an unknown option, or a value of another type.

    Example:
        >>> from msplora_core.method_list import METHODS
        >>> checked_options(METHODS["lora"], {"use_dorra": True})
        Traceback (most recent call last):
        msplora_core.errors.ParameterError: options: expected an option of lora, found use_dorra; the nearest is use_dora
    """  # noqa: E501 - the error is one line
    types = option_types(method)
    shared = {option: setting for setting, option in method.settings.items()}
    for name in options:
        if name in shared:
            raise ParameterError("options", expected=f"the setting {shared[name]} in place of an option", found=name)
    checked = _converted("options", method.name, options, types)
    if checked.get("layers_to_transform") == []:
        raise ParameterError("options: layers_to_transform", expected="at least one layer", found="none")
    return checked


def _converted(where: str, method: str, values: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for name, value in values.items():
        if name not in types:
            hint = nearest(name, types, f"it has {', '.join(types) or 'none'}")
            raise ParameterError(where, expected=f"an option of {method}", found=name, hint=hint)
        try:
            checked[name] = convert(value, types[name])
        except TypeError:
            raise ParameterError(f"{where}: {name}", expected=described(types[name]), found=value) from None
    return checked
