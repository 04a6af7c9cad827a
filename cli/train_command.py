"""A run as the `train` command that trains it."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

from msplora_core.method_list import METHOD_SETTINGS
from msplora_core.option_words import option_words

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
            words += option_words(field.name, value)
    return [*words, "--resume"]
