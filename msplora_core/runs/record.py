"""What a run was: the contents of run.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from msplora_core.errors import RunDirectoryError
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.plain import plain

FORMAT = "msplora-run"
VERSION = 1


@dataclass
class RunRecord:
    """One training of one method on one task with one seed.

    Args:
        method: the method with what tells its variants apart, as a word: `lora-r8`, `msplora-8-4-2`.
        model: the base model's id or folder name.
        task: what it was trained on; empty if unknown.
        seed: of the training; None if unknown.
        layers: number of layers of the deepest stack.
        modules: module types, in the order of the model.
        components: per component its key, rank, shape [out, in], scaling, stack (the list of layers that it serves,
            with the shape: `encoder.layer 768x768`) and the indices of the layers that it serves.
        configuration: the adapter's own configuration (for PEFT, its `adapter_config.json`).
        hyperparameters: of the training.
        metric: the task's metric, as metrics.jsonl names it after `eval_`; empty if unknown.
        constant_score: that metric for a constant answer to every development example; None if unknown.
        versions: of the packages that made the run.
        started: ISO 8601 with time zone.
        finished: the same; None while the run trains, or if it was killed.
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
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""
    finished: str | None = None

    def write(self, path: Path) -> None:
        """Write run.json, whole or not at all."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_atomically(path, json.dumps(plain(content), indent=2).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read run.json.

        Raises:
            RunDirectoryError: if it is missing, no JSON, of another format or a newer version, or a field is
                missing or of the wrong type.
        """
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise RunDirectoryError(path, expected="a run record in JSON", found=str(error)) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format", "no format") if isinstance(content, dict) else type(content).__name__
            raise RunDirectoryError(path, key="format", expected=FORMAT, found=found)
        version = content.get("version")
        if not isinstance(version, int) or version > VERSION:
            raise RunDirectoryError(
                path, key="version", expected=f"at most {VERSION}", found=version, hint="update msplora"
            )
        types = {"method": str, "model": str, "task": str, "seed": int | None, "layers": int, "modules": list,
                 "components": list, "configuration": dict, "hyperparameters": dict,
                 "metric": str, "constant_score": float | int | None}  # fmt: skip
        for name, kind in types.items():
            if name in content and not isinstance(content[name], kind):
                raise RunDirectoryError(path, key=name, expected=f"{kind}", found=content[name])
        for name in ("method", "model"):
            if name not in content:
                raise RunDirectoryError(path, key=name, expected="a name", found="none")
        return cls(**{f.name: content[f.name] for f in fields(cls) if f.name in content})
