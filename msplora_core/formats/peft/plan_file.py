"""A plan of ranks as a file: the fields of PEFT's configuration that set the rank of each module."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from msplora_core.errors import AdapterFileError, ParameterError
from msplora_core.formats.peft.configuration import Patterns, PeftConfig
from msplora_core.formats.weight_files import CONFIG
from msplora_core.pyramid import check_ranks

PLAN = "peft.json"
"""Name of the file in the folder that `plan --out` writes."""
_FIELDS = (
    "r", "ranks", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "exclude_modules",
    "layers_to_transform", "layers_pattern", "use_rslora", "use_dora", "groups",
)  # fmt: skip


def read_rank_plan(path: str | Path) -> PeftConfig:
    """Read a plan: `peft.json`, the folder that holds it, or the `adapter_config.json` of a LoRA or MSPLoRA adapter.

    Raises:
        AdapterFileError: if there is none, or a rank, an α or a pattern in it is invalid.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in (PLAN, CONFIG) if (path / name).is_file()), path / PLAN)
    plan = PeftConfig.read(path)
    if not isinstance(plan.content.get("target_modules"), list | str):
        raise plan.error("target_modules", "names of modules", plan.content.get("target_modules", "none"))
    if is_pyramid(plan):
        _check_pyramid(plan)
    else:
        plan.rank()
        plan.number("lora_alpha", 8)
        plan.patterns("rank_pattern")
        plan.patterns("alpha_pattern")
    return plan


def is_pyramid(plan: PeftConfig) -> bool:
    """Whether a plan is for MSPLoRA."""
    return plan.peft_type == "MSPLORA"


def planned_ranks(plan: PeftConfig, paths: Collection[str]) -> dict[str, int]:
    """Return the rank of each module in a plan for LoRA; 0 for a module that its list of targets leaves out.

    Args:
        plan: from `read_rank_plan`.
        paths: of the modules.

    Raises:
        AdapterFileError: if the plan names modules that are not among them.
    """
    ranks, common, targets = plan.patterns("rank_pattern"), plan.rank(), plan.content["target_modules"]
    named = {re.escape(name): 1 for name in targets} if isinstance(targets, list) else {".*": 1}
    chosen = Patterns(plan, "target_modules", named)
    if lost := [*chosen.unmatched(paths), *ranks.unmatched(paths)]:
        raise plan.error("target_modules", "modules of the adapter", lost[0].replace("\\.", "."))
    return {path: int(ranks.value_of(path, common)) if chosen.value_of(path, 0) else 0 for path in paths}


def plan_fields(plan: PeftConfig) -> dict[str, Any]:
    """Return the fields of a plan, as keyword arguments of `peft.LoraConfig` or `MSPLoraConfig`."""
    given = {name: plan.content[name] for name in _FIELDS if plan.content.get(name) is not None}
    lists = ("ranks", "lora_alpha", "groups")
    return {name: tuple(value) if name in lists and isinstance(value, list) else value for name, value in given.items()}


def _check_pyramid(plan: PeftConfig) -> None:
    patterns = plan.content.get("rank_pattern") or {}
    if not isinstance(patterns, dict):
        raise plan.error("rank_pattern", "three ranks by pattern", patterns)
    replace(plan, content={"rank_pattern": dict.fromkeys(patterns, 1)}).patterns("rank_pattern")
    for name, ranks in {"ranks": plan.content.get("ranks"), **patterns}.items():
        try:
            check_ranks(ranks, name)
        except ParameterError as error:
            raise AdapterFileError(plan.path, key=name, expected=error.expected, found=error.found) from error
