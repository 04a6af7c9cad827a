"""Registration of MSPLoRA with PEFT.

PEFT finds a method's classes through its registry, whose keys are members of the enumeration `PeftType`. A Python
enumeration accepts no new members after its definition, so the member is added to the tables of `enum` directly,
once per process. `PeftConfig.from_pretrained`, `PeftModel.from_pretrained` and similar functions then find the method
by the name in `adapter_config.json`, as they find PEFT's own.
"""

from __future__ import annotations

from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import register_peft_method

NAME = "msplora"
PREFIX = "msplora_"
"""Prefix of the adapter's tensor names, after the path of the adapted module."""


def msplora_type() -> PeftType:
    """Return the member `PeftType.MSPLORA`; the first call creates it.

    Example:
        >>> msplora_type().value
        'MSPLORA'
    """
    value = NAME.upper()
    if value not in PeftType.__members__:
        member: Any = str.__new__(PeftType, value)
        member._name_, member._value_ = value, value
        # A pickle of the member must load in a process that has not imported this package yet.
        member.__reduce_ex__ = _reduce
        type.__setattr__(PeftType, value, member)
        PeftType._member_map_[value] = member
        PeftType._value2member_map_[value] = member
        PeftType._member_names_.append(value)
    return PeftType(value)


def _reduce(protocol: int) -> tuple[Any, tuple[()]]:
    return msplora_type, ()


def register(config_class: type, model_class: type) -> None:
    """Enter the method into PEFT's registry, unless it is there already."""
    if msplora_type() not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=NAME, config_cls=config_class, model_cls=model_class, prefix=PREFIX)
