"""PEFT's `adapter_config.json`, read without PEFT."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from msplora_core.errors import AdapterFileError
from msplora_core.storage.json_file import plain_text, read_json_object
from msplora_core.wording import listed

MOST_PATTERN_CHECKS = 2_000_000

_CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")

_ATOM = r"(?:\\.|\[\^?\]?[^\]]*\]|[^\\()\[\]*+?{}|^$])"
_REPEAT = re.compile(_ATOM + r"(?:[*+]|\{\d*,?\d*\})[?+]?")


@dataclass(frozen=True)
class PeftConfig:
    """An adapter's configuration.

    Args:
        path: the file.
        content: its fields.

    Example:
        >>> config = PeftConfig(Path("adapter_config.json"), {"peft_type": "LORA", "r": 8, "lora_alpha": 16})
        >>> config.peft_type, config.rank(), config.number("lora_alpha")
        ('LORA', 8, 16.0)
    """

    path: Path
    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> PeftConfig:
        """Read adapter_config.json.

        Raises:
            AdapterFileError: if it is not a JSON object in UTF-8.
        """
        return cls(path, read_json_object(path))

    @property
    def peft_type(self) -> str:
        """The method, in capitals as PEFT writes it; empty where the file names none."""
        return plain_text(self.content.get("peft_type")).upper()

    @property
    def model(self) -> str:
        """The base model's id or folder; empty where the file names none."""
        return plain_text(self.content.get("base_model_name_or_path"))

    @property
    def base_change(self) -> str:
        """The initialisation, if it changed the base model's weights (`pissa`, ...); else empty.

        Example:
            >>> PeftConfig(Path("c"), {"init_lora_weights": "pissa_niter_16"}).base_change
            'pissa'
        """
        value = self.content.get("init_lora_weights")
        initialisation = value.lower() if isinstance(value, str) else ""
        return next((name for name in _CHANGES_BASE if initialisation.startswith(name)), "")

    @property
    def modules_to_save(self) -> list[str]:
        """Modules that were trained in full beside the adapter."""
        names = self.content.get("modules_to_save")
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def target_notes(self, paths: Collection[str]) -> list[str]:
        """Check that the weights belong to this configuration; return notes on what differs, by PEFT's rules.

        Targets given as a regular expression, and parameters, are not checked.

        Args:
            paths: of the adapted modules.

        Raises:
            AdapterFileError: if `target_modules` is a list and names none of them.
        """
        targets = self._names("target_modules")
        if not targets or self.content.get("target_parameters"):
            return []
        named = [path for path in paths if not targets.isdisjoint(_ends(path))]
        if not named:
            raise self.error(
                "target_modules",
                f"a target among the adapted modules ({listed(list(paths), 2)})",
                ", ".join(sorted(targets)),
                hint="the configuration belongs to other weights",
            )
        excluded = self._names("exclude_modules")
        wanted = {
            path for path in named
            if excluded.isdisjoint(_ends(path)) and (path in targets or self._transforms_layer(path))
        }  # fmt: skip
        beyond = [path for path in paths if path not in wanted]
        without = targets - {end for path in paths for end in _ends(path)} - set(self.modules_to_save)
        notes = []
        if beyond:
            fields = "target_modules, layers_to_transform, exclude_modules"
            notes.append(f"{listed(beyond, 2)}: in the weights, but no targets of {self.path.name} ({fields}).")
        if without:
            notes.append(f"{listed(sorted(without))}: in target_modules of {self.path.name}, but not in the weights.")
        return notes

    def _names(self, field: str) -> set[str]:
        """Names of modules in a list; none if the field is a regular expression or missing."""
        value = self.content.get(field)
        return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()

    def _transforms_layer(self, path: str) -> bool:
        """Whether a module's layer is among `layers_to_transform`; true if that is not known."""
        layers, patterns = self.content.get("layers_to_transform"), self.content.get("layers_pattern")
        layers = [layers] if isinstance(layers, int) else layers
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(layers, list) or not layers:
            return True
        names = path.split(".")[:-1]
        numbers = [
            int(name) for before, name in pairwise(names) if name.isdecimal() and (not patterns or before in patterns)
        ]
        return not numbers or numbers[-1] in layers

    def number(self, name: str, default: float | None = None) -> float:
        """Return a finite number.

        Raises:
            AdapterFileError: if the field has another value, or is missing without a default.
        """
        value = self.content.get(name)
        value = default if value is None else value
        if not _is_number(value):
            raise self.error(name, "a finite number", value)
        return float(value)  # type: ignore[arg-type] # just checked

    def rank(self, name: str = "r", default: int | None = None) -> int:
        """Return a whole number of at least 1.

        Raises:
            AdapterFileError: if the field has another value, or is missing without a default.
        """
        value = self.content.get(name)
        value = default if value is None else value
        if not _is_rank(value):
            raise self.error(name, "a whole number of at least 1", value)
        return value  # type: ignore[return-value] # just checked

    def flag(self, name: str) -> bool:
        """Return whether a switch is on; off where it is missing."""
        return bool(self.content.get(name, False))

    def patterns(self, name: str) -> Patterns:
        """Return `rank_pattern` or `alpha_pattern`.

        Raises:
            AdapterFileError: if it is not a mapping from patterns to numbers.
        """
        value = self.content.get(name) or {}
        good = _is_rank if name == "rank_pattern" else _is_number
        if not isinstance(value, dict) or not all(good(item) for item in value.values()):
            raise self.error(name, "numbers by pattern", value)
        return Patterns(self, name, value)

    def error(self, name: str, expected: str, found: object, hint: str = "") -> AdapterFileError:
        return AdapterFileError(self.path, key=name, expected=expected, found=found, hint=hint)


class Patterns:
    """Numbers by module, from PEFT's rank_pattern or alpha_pattern.

    A pattern is a regular expression for the end of a module's path, from a dot or from the start:
    `q_proj` matches every q_proj, `layers.1.q_proj` not that of layer 11, `^q_proj` only the outermost one. The
    first match counts. Patterns whose matching could take exponential time are refused.

    Args:
        config: the configuration, for errors.
        name: the field.
        values: number by pattern.

    Example:
        >>> config = PeftConfig(Path("c"), {"rank_pattern": {"layers.1.q": 4, "q": 2}})
        >>> ranks = config.patterns("rank_pattern")
        >>> [ranks.value_of(module, 8) for module in ("layers.1.q", "layers.11.q", "layers.1.k")]
        [4, 2, 8]
    """

    def __init__(self, config: PeftConfig, name: str, values: Mapping[str, Any]) -> None:
        self._patterns = list(values)
        self._compiled = [(_compiled(config, name, pattern), value) for pattern, value in values.items()]
        self._error = config.error
        self._name = name
        self._checks = 0

    def value_of(self, module: str, default: float) -> float:
        """Return the number of the first pattern that matches a module's path, else the default."""
        self._checks += len(self._compiled)
        if self._checks > MOST_PATTERN_CHECKS:
            raise self._error(self._name, f"at most {MOST_PATTERN_CHECKS} patterns × modules", self._checks)
        return next((value for pattern, value in self._compiled if pattern.match(module)), default)

    def unmatched(self, modules: Collection[str]) -> list[str]:
        """Return the patterns that match none of the modules' paths."""
        if len(self._compiled) * len(modules) > MOST_PATTERN_CHECKS:
            return []
        return [
            pattern
            for pattern, (compiled, _) in zip(self._patterns, self._compiled, strict=True)
            if not any(compiled.match(module) for module in modules)
        ]


def _compiled(config: PeftConfig, name: str, pattern: str) -> re.Pattern[str]:
    rest, repeats = _REPEAT.subn("x", pattern)
    optional, choices, groups = rest.replace("(?:", "(").count("?"), rest.count("|"), rest.count("(")
    runs_away = repeats > 2 or optional > 3 or choices > 200 or groups > 3 or re.search(r"\)[*+{]|\?[*+?{]|[*+]", rest)
    if len(pattern) > 500 or runs_away:
        raise config.error(name, "a pattern without repeats of groups and with at most two repeats", pattern)
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError, RecursionError) as error:
        raise config.error(name, "a regular expression", f"{pattern!r}: {error}") from error


def module_path(name: str) -> str:
    """Return a module's path in the base model, from its path in PEFT's model.

    Example:
        >>> module_path("base_model.model.bert.encoder.layer.0.attention.self.query")
        'bert.encoder.layer.0.attention.self.query'
    """
    return name.removeprefix("base_model.model.")


def _ends(path: str) -> Iterator[str]:
    """The path, and what is left of it after each dot."""
    yield path
    while "." in path:
        path = path.partition(".")[2]
        yield path


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    )


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31
