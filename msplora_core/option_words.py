"""A setting of a training as words of the command line."""

from __future__ import annotations

import json
from typing import Any


def option_words(name: str, value: Any) -> list[str]:
    """Return the words that give `msplora-analyze train` a setting of `RunConfig`.

    Example:
        >>> option_words("bf16", True), option_words("target_modules", ["query", "value"])
        (['--bf16'], ['--target', 'query', '--target', 'value'])
    """
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
