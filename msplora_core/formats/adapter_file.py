"""An adapter on disk and its components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from msplora_core.components import Component, ComponentKey
from msplora_core.formats.other.diffusion_names import OWNERS
from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.formats.stored import StoredUpdate
from msplora_core.placement import joint_stack, stack_name
from msplora_core.storage.tensors import Tensor


@dataclass(frozen=True)
class Adapter:
    """An adapter on disk, recognised; its weights are not read yet.

    Args:
        path: the folder or file.
        format: the tool that writes such files: `PEFT`, `kohya`.
        method: name with the ranks: `lora-r8`, `msplora-8-4-2`.
        model: the base model's id or folder; empty if unknown.
        notes: remarks on the numbers, one sentence each.
        updates: its weight updates.
        keys: the component of each update.
        task: training data; empty if unknown.
        seed: of the training; None if unknown.
        files: files of its weights.
        magnitudes: for PEFT's DoRA, the norm of each row of a module's weight, by module path.
        config: PEFT's configuration, if there is one.
    """

    path: Path
    format: str
    method: str
    model: str
    notes: tuple[str, ...]
    updates: Sequence[StoredUpdate] = field(repr=False)
    keys: Sequence[ComponentKey] = field(repr=False)
    task: str = ""
    seed: int | None = None
    files: tuple[Path, ...] = ()
    magnitudes: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    config: PeftConfig | None = field(default=None, repr=False)

    def components(self) -> Iterator[Component]:
        """Yield every component; each is read when it is yielded.

        Raises:
            AdapterFileError: if values are not finite, or the file has changed since it was opened.
        """
        for stored, key in zip(self.updates, self.keys, strict=True):
            yield Component(key, stored.load())

    def stacks(self) -> dict[str, str]:
        """Return the stack of each module type: `encoder.block 512x512`."""
        stacks: dict[str, list[str]] = {}
        for stored, key in zip(self.updates, self.keys, strict=True):
            stacks.setdefault(key.module, []).append(stack_name(stored.path, stored.shape))
        return {module: joint_stack(names) for module, names in stacks.items()}

    @property
    def whole(self) -> str:
        """The scale of a module's whole update: `total` if layers share components, else `layer`."""
        return "total" if any(key.scale == "total" for key in self.keys) else "layer"

    @property
    def pipeline(self) -> tuple[str, ...]:
        """The models of a diffusion pipeline, the first names of the paths; empty for a single model."""
        models = tuple(dict.fromkeys(update.path.partition(".")[0] for update in self.updates))
        return models if self.format in ("kohya", "diffusers") and OWNERS.issuperset(models) else ()

    @property
    def numbered(self) -> list[str]:
        """Paths that are numbers only, where the file does not name the model's modules."""
        paths = [update.path for update in self.updates] if self.format == "pairs of factors" else []
        return [path for path in paths if path.rpartition(".")[2].isdecimal() and path.count(".") < 2]

    @property
    def size(self) -> int:
        """Bytes of the weights on disk."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def parameters(self) -> int:
        """Number of values in the factors of all updates."""
        return sum(update.parameters for update in self.updates)

    @property
    def mean_rank(self) -> float:
        """Mean rank of the components, without totals."""
        ranks = [update.rank for update, key in zip(self.updates, self.keys, strict=True) if key.scale != "total"]
        return sum(ranks) / max(1, len(ranks))

    def modules(self) -> list[ModuleSummary]:
        """Return a summary of each scale and module type."""
        lines: dict[tuple[str, str], list[tuple[int, StoredUpdate]]] = {}
        for stored, key in zip(self.updates, self.keys, strict=True):
            lines.setdefault((key.scale, key.module), []).append((key.unit, stored))
        return [ModuleSummary.of(scale, module, members) for (scale, module), members in lines.items()]

    def _repr_html_(self) -> str:
        """Return a table for notebooks: one row for each scale and module type."""
        names = ("scale", "module", "units", "shapes", "ranks", "scalings", "dtypes")
        rows = [[_listed(getattr(line, name)) for name in names] for line in self.modules()]
        cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
        head = "".join(f"<th>{name}</th>" for name in names)
        about = f"{self.method} in the format of {self.format}, of {self.model or 'an unknown model'}"
        return (
            f"<p>{escape(about)}: {self.parameters:,} parameters</p><table><tr>{head}</tr>"
            f"{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
        )


def _listed(value: Any) -> str:
    """Up to twelve items of a tuple in words: shapes as out × in."""
    if not isinstance(value, tuple):
        return str(value)
    words = [" × ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value]
    return ", ".join(words) if len(words) < 13 else f"{', '.join(words[:10])}, ... {words[-1]}"


@dataclass(frozen=True)
class ModuleSummary:
    """One scale of one module type.

    Args:
        scale: `global`, `mid`, `layer` or `total`.
        module: the module type.
        units: ascending.
        shapes: distinct (out, in), ascending.
        ranks: distinct, ascending.
        scalings: distinct, ascending.
        dtypes: distinct.
    """

    scale: str
    module: str
    units: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    ranks: tuple[int, ...]
    scalings: tuple[float, ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, scale: str, module: str, members: Sequence[tuple[int, StoredUpdate]]) -> ModuleSummary:
        """Return the summary of some units."""
        stored = [update for _, update in members]
        return cls(
            scale,
            module,
            tuple(sorted(unit for unit, _ in members)),
            tuple(sorted({update.shape for update in stored})),
            tuple(sorted({update.rank for update in stored})),
            tuple(sorted({update.scaling for update in stored})),
            tuple(sorted({update.dtype for update in stored})),
        )
