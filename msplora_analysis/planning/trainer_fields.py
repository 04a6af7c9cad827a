"""A plan as fields of PEFT's configuration, from which those of other trainers are derived."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msplora_analysis.planning.plan_targets import PlanTargets
from msplora_analysis.planning.rank_plan import Plan
from msplora_core.errors import ParameterError
from msplora_core.pyramid import SCALES

_NARROWING = ("exclude_modules", "layers_to_transform", "layers_pattern")
_CARRIED = (*_NARROWING, "fan_in_fan_out", "use_rslora", "use_dora", "layer_replication")


def trainer_fields(plan: Plan, targets: PlanTargets, model: str = "") -> dict[str, Any]:
    """Return the fields of `peft.LoraConfig`, or of `MSPLoraConfig`, with the planned rank of each module.

    α is chosen so that α/r of each module is that of the probe; with rsLoRA (α/√r), α is that of the probe. Modules of
    rank 0 are left out of `target_modules`.

    Args:
        plan: the ranks.
        targets: the modules by their paths (see `read_plan_targets`).
        model: the model of a pipeline, if there are several.

    Raises:
        ParameterError: if the plan has modules that the targets do not have, or no rank above 0.
    """
    shared = bool(plan.modules["unit"].isna().any())
    ranks, alphas = _shared(plan, targets) if shared else module_ranks(plan, targets)
    if model:
        ranks, alphas = (_of_model(values, model) for values in (ranks, alphas))
    kept = [path for path, rank in ranks.items() if rank and rank != [0, 0, 0]]
    if not kept:
        raise ParameterError("plan", expected="a rank above 0 for at least one module", found="none")
    named = targets.configuration.get("target_modules")
    whole = isinstance(named, list | str) and len(kept) == len(ranks) == len(targets.paths)
    carried = [name for name in _CARRIED if whole or name not in _NARROWING]
    ranks, alphas = ({path: values[path] for path in kept} for values in (ranks, alphas))
    keys = _type_keys(targets) if shared else {path: re.escape(path) for path in kept}
    rank, rank_pattern = _patterns(ranks, keys)
    alpha, alpha_pattern = _patterns(alphas, keys)
    return {
        **({"peft_type": "MSPLORA"} if shared else {}),
        "ranks" if shared else "r": rank,
        "lora_alpha": alpha,
        "target_modules": (sorted(named) if isinstance(named, list) else named) if whole else kept,
        "rank_pattern": rank_pattern,
        "alpha_pattern": alpha_pattern,
        **{name: targets.configuration[name] for name in carried if targets.configuration.get(name)},
        **({"groups": targets.configuration["groups"]} if targets.configuration.get("groups") else {}),
    }


def module_ranks(plan: Plan, targets: PlanTargets) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return rank and α by path, for modules with ranks of their own.

    Raises:
        ParameterError: if the plan has modules that the targets do not have.
    """
    ranks, alphas = dict[str, Any](), dict[str, Any]()
    for one in plan.ranks:
        path, groups = targets.path(one), targets.groups.get((one.module, one.unit), 1)
        ranks[path] = math.ceil(one.rank / groups) * groups  # the groups of a convolution have equal ranks
        alphas[path] = targets.alpha(one, ranks[path])
    return ranks, alphas


def _shared(plan: Plan, targets: PlanTargets) -> tuple[dict[str, Any], dict[str, Any]]:
    """Three ranks and αs by path, the same for all modules of a type."""
    planned = {(one.scale, one.module): one for one in plan.ranks}
    ranks, alphas = dict[str, Any](), dict[str, Any]()
    for (module, _), path in targets.paths.items():
        scales = [planned.get((scale, module)) for scale in SCALES]
        ranks[path] = [one.rank if one else 0 for one in scales]
        alphas[path] = [targets.alpha(one, one.rank or one.before) if one else 1 for one in scales]  # 1 is unused
    return ranks, alphas


def _of_model(values: Mapping[str, Any], model: str) -> dict[str, Any]:
    return {path.removeprefix(f"{model}."): one for path, one in values.items() if path.startswith(f"{model}.")}


def _patterns(values: Mapping[str, Any], keys: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """The most common value, and the others by pattern, specific ones first.

    PEFT matches a key with the end of a path, from a dot or from its start; the first match counts. A path that ends
    with another's whole path is listed even if its value is the common one.
    """
    common = Counter(map(str, values.values())).most_common(1)[0][0]
    found = {path: value for path, value in values.items() if str(value) != common}
    for path, value in values.items():
        if any(path.endswith(f".{other}") for other in found if values[other] != value):
            found[path] = value
    ordered = sorted(found, key=lambda path: -path.count("."))
    return next(value for value in values.values() if str(value) == common), {
        keys[path]: found[path] for path in ordered
    }


def _type_keys(targets: PlanTargets) -> dict[str, str]:
    """For each path a pattern for its module type: any layer of its list."""
    return {path: re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", re.escape(path), count=1) for path in targets.paths.values()}
