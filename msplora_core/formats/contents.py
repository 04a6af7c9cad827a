"""Input and output of a format: a module with `recognise(contents)` and `read(contents)`, listed in `FORMATS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.formats.stored import StoredUpdate
from msplora_core.storage.tensors import Tensor


@dataclass(frozen=True)
class Contents:
    """The contents of an adapter's files: tensors, and the configuration beside them.

    Args:
        path: the folder or file that the user named.
        tensors: by name, not read yet.
        metadata: of the file of weights.
        config: PEFT's configuration, if there is one.
        alpha: α from the user, for files that do not hold it.
        base: the base model's folder or file, for formats that need it.
    """

    path: Path
    tensors: Mapping[str, Tensor] = field(repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    config: PeftConfig | None = None
    alpha: float | None = None
    base: Path | None = None

    def has_peft_type(self, *names: str) -> bool:
        """Whether PEFT's configuration names one of these methods."""
        return self.config is not None and self.config.peft_type in names

    def given_scaling(self, rank: int) -> float:
        """Return α/r with the user's α; 1 without it."""
        return 1.0 if self.alpha is None else self.alpha / rank


@dataclass(frozen=True)
class Found:
    """What a format has read.

    Args:
        format: the tool that writes such files.
        method: name with the ranks: `lora-r8`.
        updates: at least one.
        model: the base model's id or folder; empty if unknown.
        notes: remarks on the numbers, one sentence each.
        magnitudes: for DoRA, the norm of each row of a module's adapted weight (out, in), by module path.
    """

    format: str
    method: str
    updates: Sequence[StoredUpdate]
    model: str = ""
    notes: Sequence[str] = ()
    magnitudes: Mapping[str, Tensor] = field(default_factory=dict)
