"""A run as the `train` command that trains it."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from msplora_core.method_list import METHOD_SETTINGS

if TYPE_CHECKING:
    from msplora_core.training import RunConfig

_ALWAYS = {"method", "seed", "epochs", "learning_rate", "out"}  # also where it is the default


def train_command(config: RunConfig) -> list[str]:
    """Return the words of the command, which resumes a run that was cut off.

    Example:
        >>> from msplora_core.training import RunConfig
        >>> print(*train_command(RunConfig(task="mrpc", method="lora", rank=2, epochs=3)))
        msplora-analyze train --task mrpc --method lora --rank 2 --out runs --seed 0 --epochs 3 ... --resume
    """
    words = ["msplora-analyze", "train"]
    method = config.method_entry
    always = _ALWAYS if config.plan else {*_ALWAYS, *{"rank", "ranks"}.intersection(method.settings)}
    for field in fields(config):
        value = getattr(config, field.name)
        default = MISSING if field.name in always else method.values.get(field.name, field.default)
        held = config.plan and field.name in ("method", "ranks", "rank", "alpha")  # by the plan
        idle = field.name in METHOD_SETTINGS and field.name not in method.settings
        if value is not None and value != default and not held and not idle:
            words += _option(field.name, value)
    return [*words, "--resume"]


def _option(name: str, value: Any) -> list[str]:
    option = "--" + name.replace("_", "-")
    if value is True:
        return [option]
    if name == "target_modules":
        return [word for target in value for word in ("--target", target)]
    if name == "options":
        return [word for key, one in value.items() for word in ("--set", f"{key}={_set(one)}")]
    if name == "rank_pattern":
        return [word for module, ranks in value.items() for word in (option, f"{module}={_joined(ranks)}")]
    if name == "schedule":
        return [option, ",".join("+".join(phase) for phase in value)]
    return [option, _joined(value)]


def _set(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _joined(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
