"""Registration of this package's methods with PEFT.

PEFT finds a method's classes through its registry, whose keys are members of the enumeration `PeftType`. A Python
enumeration accepts no new members after its definition, so the member is added to the tables of `enum` directly,
once per process. `PeftConfig.from_pretrained`, `PeftModel.from_pretrained` and similar functions then find the method
by the name in `adapter_config.json`, as they find PEFT's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import register_peft_method

NAME = "msplora"
PREFIX = "msplora_"
"""Prefix of the adapter's tensor names, after the path of the adapted module."""


def method_type(name: str) -> PeftType:
    """Return the member of `PeftType` for a method; the first call creates it.

    Args:
        name: of the method, in lower case.

    Example:
        >>> method_type("msplora").value
        'MSPLORA'
    """
    value = name.upper()
    if value not in PeftType.__members__:
        member: Any = str.__new__(PeftType, value)
        member._name_, member._value_ = value, value
        # A pickle of the member must load in a process that has not imported this package yet.
        member.__reduce_ex__ = partial(_reduce, name)
        type.__setattr__(PeftType, value, member)
        PeftType._member_map_[value] = member
        PeftType._value2member_map_[value] = member
        PeftType._member_names_.append(value)
    return PeftType(value)


def _reduce(name: str, protocol: int) -> tuple[Callable[[str], PeftType], tuple[str]]:
    return method_type, (name,)


def register(name: str, config_class: type, model_class: type) -> None:
    """Register a method with PEFT, unless it is registered. The names of its tensors begin with `<name>_`."""
    if method_type(name) not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=name, config_cls=config_class, model_cls=model_class, prefix=f"{name}_")
