"""Making MSPLoRA known to PEFT.

PEFT finds a method's classes through its registry, whose keys are members of the enumeration `PeftType`; and an
enumeration takes no new members once it is made. So the member is put where `enum` keeps them, once in a process.
From then on `PeftConfig.from_pretrained`, `PeftModel.from_pretrained` and their like know the method by the name
in `adapter_config.json`, as they know those that PEFT brings.
"""

from __future__ import annotations

from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import register_peft_method

NAME = "msplora"
PREFIX = "msplora_"
"""How the names of the adapter's tensors begin, after the path of the adapted module."""


def msplora_type() -> PeftType:
    """The member `PeftType.MSPLORA`, made when first asked for.

    Example:
        >>> msplora_type().value
        'MSPLORA'
    """
    value = NAME.upper()
    if value not in PeftType.__members__:
        member: Any = str.__new__(PeftType, value)
        member._name_, member._value_ = value, value
        # A pickle of the member must find it in a process that has not loaded this package yet.
        member.__reduce_ex__ = _reduce
        type.__setattr__(PeftType, value, member)
        PeftType._member_map_[value] = member
        PeftType._value2member_map_[value] = member
        PeftType._member_names_.append(value)
    return PeftType(value)


def _reduce(protocol: int) -> tuple[Any, tuple[()]]:
    return msplora_type, ()


def register(config_class: type, model_class: type) -> None:
    """Enter the method into PEFT's registry; a second time does nothing."""
    if msplora_type() not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=NAME, config_cls=config_class, model_cls=model_class, prefix=PREFIX)
