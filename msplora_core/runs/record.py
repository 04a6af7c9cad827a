"""The record of a run: the contents of run.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from msplora_core.components import ComponentKey
from msplora_core.errors import ParameterError, RunDirectoryError
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.json_file import is_printable_name, plain_text, read_json_object
from msplora_core.storage.strict_json import plain

FORMAT = "msplora-run"
VERSION = 1


@dataclass
class RunRecord:
    """One training of one method on one task with one seed.

    Args:
        method: name with the ranks: `lora-r8`, `msplora-8-4-2`.
        model: the base model's id or folder name.
        task: training data; empty if unknown.
        seed: of the training; None if unknown.
        layers: number of layers of the deepest stack.
        modules: module types, in the order of the model.
        components: for each component its key, rank, shape [out, in], scaling, stack (`encoder.layer 768x768`) and
            the indices of the layers that it serves.
        configuration: of the adapter (for PEFT, its `adapter_config.json`).
        hyperparameters: of the training.
        metric: the task's metric, as metrics.jsonl names it after `eval_`; empty if unknown.
        constant_score: the best value of that metric for a constant answer; None if unknown.
        eval_examples: number of examples that the metric is computed on; 0 if unknown.
        no_spectra: why the method's updates have no spectra; empty if they have.
        cost: of the training since it was last started or resumed: `trained_parameters`, `seconds`, `cpu_seconds`,
            `peak_bytes`, where the system tells it; empty if unknown.
        data: SHA-256 of the file of instructions; empty for other tasks.
        data_file: its name; empty in older records, too.
        versions: of the packages used.
        started: ISO 8601 with time zone.
        finished: likewise; None while the run trains, or if it was killed.
    """

    method: str
    model: str
    task: str = ""
    seed: int | None = None
    layers: int = 0
    modules: list[str] = field(default_factory=list)
    components: list[dict[str, Any]] = field(default_factory=list)
    configuration: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    metric: str = ""
    constant_score: float | None = None
    eval_examples: int = 0
    no_spectra: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    data: str = ""
    data_file: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""
    finished: str | None = None

    def write(self, path: Path) -> None:
        """Write run.json atomically."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_atomically(path, json.dumps(plain(content), indent=2).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read run.json; unprintable characters of method, model and task are removed.

        Raises:
            FileError: if it is missing, not a JSON object, of another format or a newer version, or a field is
                missing or invalid.
        """
        content = read_json_object(path)
        if content.get("format") != FORMAT:
            raise RunDirectoryError(path, key="format", expected=FORMAT, found=content.get("format", "no format"))
        version = content.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise RunDirectoryError(
                path, key="version", expected=f"at most {VERSION}", found=version, hint="update msplora"
            )
        known = {f.name: content[f.name] for f in fields(cls) if f.name in content}
        known |= {name: plain_text(known[name]) for name in _NAMES if isinstance(known.get(name), str)}
        for name, (expected, check) in _CHECKS.items():
            required = name in ("method", "model")
            if (required or name in known) and not check(known.get(name)):
                found = known.get(name)
                raise RunDirectoryError(path, key=name, expected=expected, found="none" if found is None else found)
        return cls(**known)


_NAMES = ("method", "model", "task")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**31


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_component(value: Any) -> bool:
    """Whether an entry has a component's key and shape, and a printable stack if any."""
    if not isinstance(value, dict) or not isinstance(value.get("key"), str):
        return False
    try:
        ComponentKey.parse(value["key"])
    except ParameterError:
        return False
    shape, stack = value.get("shape"), value.get("stack", "")
    shaped = isinstance(shape, list) and len(shape) == 2 and all(_is_whole(size, 1) for size in shape)
    return shaped and isinstance(stack, str) and stack == plain_text(stack)


_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "method": ("a name", lambda value: _is_text(value) and value != ""),
    "model": ("a name", _is_text),
    "task": ("a text", _is_text),
    "data": ("a text", _is_text),
    "data_file": ("a printable text", lambda value: _is_text(value) and value == plain_text(value)),
    "seed": ("a whole number or null", lambda value: value is None or type(value) is int),
    "layers": ("a whole number", _is_whole),
    "modules": ("names", lambda value: isinstance(value, list) and all(map(is_printable_name, value))),
    "components": (
        "components, each with its key scale/module/unit and its shape [out, in]",
        lambda value: isinstance(value, list) and all(map(_is_component, value)),
    ),
    "configuration": ("an object", _is_object),
    "hyperparameters": ("an object", _is_object),
    "metric": ("a printable text", lambda value: _is_text(value) and value == plain_text(value)),
    "constant_score": ("a number or null", lambda value: value is None or type(value) in (int, float)),
    "eval_examples": ("a whole number", _is_whole),
    "no_spectra": ("a printable text", lambda value: _is_text(value) and value == plain_text(value)),
    "cost": (
        "finite numbers by name",
        lambda value: _is_object(value) and all(type(one) in (int, float) and one >= 0 for one in value.values()),
    ),
    "versions": ("an object", _is_object),
    "started": ("a time with time zone in ISO 8601", lambda value: value == "" or _is_time(value)),
    "finished": ("a time with time zone in ISO 8601, or null", lambda value: value is None or _is_time(value)),
}
