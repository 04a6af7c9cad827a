"""What a format reads and returns: a module with `recognise(contents)` and `read(contents)`, in `FORMATS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.formats.stored import StoredUpdate
from msplora_core.storage.tensors import Tensor


@dataclass(frozen=True)
class Contents:
    """What there is to recognise: tensors by name and shape, and the configuration beside them.

    Args:
        path: what the user named: a folder or a file.
        tensors: by name, none of them read yet.
        metadata: what the file of weights says of itself.
        config: PEFT's configuration, if there is one.
        alpha: α as the user gives it, for files that do not hold it.
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
        """α/r with the user's α; 1 where there is none."""
        return 1.0 if self.alpha is None else self.alpha / rank


@dataclass(frozen=True)
class Found:
    """What a format read.

    Args:
        format: who writes such files, in words.
        method: with what tells its variants apart, as a word: `lora-r8`.
        updates: at least one.
        model: the base model's id or folder; empty if unknown.
        notes: sentences that a reader of the numbers should know.
        magnitudes: of DoRA, by the path of the module: the norm of each row of its adapted weight (out, in).
    """

    format: str
    method: str
    updates: Sequence[StoredUpdate]
    model: str = ""
    notes: Sequence[str] = ()
    magnitudes: Mapping[str, Tensor] = field(default_factory=dict)
