"""The modules of a probe adapter by their paths in the model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from msplora_analysis.planning.rank_plan import PlannedRank
from msplora_core.errors import ParameterError, UnsupportedAdapterError
from msplora_core.formats import Adapter, find_runs, local_path, read_adapter
from msplora_core.wording import listed


@dataclass(frozen=True)
class PlanTargets:
    """The modules that an adapter adapts.

    Args:
        configuration: PEFT's configuration of the adapter; empty for other formats.
        paths: of the modules, by (module, unit).
        scalings: α/r of the adapter, by (scale, module, unit).
        groups: of convolutions with several groups, by (module, unit).
        convolutions: paths of those with kernels larger than 1.
        models: of a pipeline, the first names of the paths; empty for a single model.
        notes: remarks on the adapter, one sentence each: an unknown α, a trained head, ...
    """

    configuration: Mapping[str, Any]
    paths: Mapping[tuple[str, int | None], str]
    scalings: Mapping[tuple[str, str, int], float]
    groups: Mapping[tuple[str, int | None], int]
    convolutions: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def path(self, one: PlannedRank) -> str:
        """Return the path of a module.

        Raises:
            ParameterError: if the adapter does not have it.
        """
        if (one.module, one.unit) not in self.paths:
            raise ParameterError("plan", expected="modules of the adapter it was computed from", found=one.label)
        return self.paths[one.module, one.unit]

    def alpha(self, one: PlannedRank, rank: int) -> float:
        """Return α for a new rank, so that α/r does not change; with rsLoRA (α/√r), α is not changed."""
        scalings = {unit: found for (scale, name, unit), found in self.scalings.items() if (scale, name) == one[:2]}
        scaling = scalings[min(scalings) if one.unit is None else one.unit]
        alpha = float(f"{scaling * (sqrt(one.before) if self.configuration.get('use_rslora') else rank):.6g}")
        return int(alpha) if alpha.is_integer() else alpha


def read_plan_targets(
    path: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    base: str | os.PathLike[str] | None = None,
    module: str | Collection[str] = (),
) -> PlanTargets:
    """Return the modules of the adapter at a path; for a study, those of its first run.

    Args:
        path: as for `load_spectra`; for a run directory its adapter is read, or its last checkpoint.
        alpha: α, for files that do not hold it.
        base: the base model of a full fine-tune.
        module: module types or ends of module paths to keep; by default all.

    Raises:
        AdapterFileError: if there is no adapter to read.
        UnsupportedAdapterError: if its modules have no paths.
    """
    place = local_path(path)
    runs = find_runs(place) if base is None else []
    last = runs[0]().last if runs else place
    adapter = read_adapter(last, alpha=alpha, base=base, module=module)
    config = adapter.config.content if adapter.config is not None else {}
    _check_paths(adapter, config)
    members = list(zip(adapter.updates, adapter.keys, strict=True))
    whole = adapter.whole
    return PlanTargets(
        configuration=config,
        paths={(key.module, key.unit): update.path for update, key in members if key.scale == whole},
        scalings={(key.scale, key.module, key.unit): update.scaling for update, key in members},
        groups={(key.module, key.unit): update.layout.groups for update, key in members if update.layout.groups > 1},
        convolutions=frozenset(update.path for update, _ in members if max((1, *update.layout.kernel[1:])) > 1),
        models=adapter.pipeline,
        notes=(*adapter.notes, *_group_notes([update.path for update in adapter.updates if update.layout.groups > 1])),
    )


def _group_notes(paths: Sequence[str]) -> list[str]:
    what = "a convolution with groups, whose rank in files for trainers is rounded up to a multiple of them"
    return [f"{listed(paths)}: {what}."] if paths else []


def _check_paths(adapter: Adapter, config: Mapping[str, Any]) -> None:
    if config.get("target_parameters"):
        raise UnsupportedAdapterError(
            f"{adapter.path}: expected adapted modules, found adapted parameters (target_parameters)"
        )
    if numbered := adapter.numbered:
        raise UnsupportedAdapterError(
            f"{adapter.path}: expected names of a model's modules, found numbers ({numbered[0]}, ...): ranks can be "
            "planned, but not written for a trainer"
        )
