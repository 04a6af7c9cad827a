"""A plan as configuration files of trainers, with their restrictions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from json import dumps
from typing import Any

from msplora_analysis.planning.plan_summary import least_vllm_rank
from msplora_analysis.planning.rank_plan import Plan

_AXOLOTL = {
    "lora_target_modules": "target_modules",
    "lora_exclude_modules": "exclude_modules",
    "peft_layers_to_transform": "layers_to_transform",
    "peft_layers_pattern": "layers_pattern",
    "lora_fan_in_fan_out": "fan_in_fan_out",
    "peft_use_rslora": "use_rslora",
    "peft_use_dora": "use_dora",
    "peft_layer_replication": "layer_replication",
}


def peft_lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of `peft.py`.

    Args:
        fields: the plan in the fields of PEFT (see `trainer_fields`).
    """
    kind, package = ("MSPLoraConfig", "msplora_core") if "ranks" in fields else ("LoraConfig", "peft")
    yield "# The keys of the patterns are full module paths, escaped; PEFT uses the first that matches a path's end."
    yield "# Add further options of the training: task_type, lora_dropout, ..."
    if "r" in fields:
        highest = max([fields["r"], *fields["rank_pattern"].values()])
        option = least_vllm_rank(highest)
        yield f"# vLLM serves it with --max-lora-rank {option}." if option else f"# vLLM serves no rank of {highest}."
    yield f"from {package} import {kind}"
    yield ""
    yield f"config = {kind}("
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield f"    {name}={{"
            yield from (f"        {key!r}: {one!r}," for key, one in value.items())
            yield "    },"
        elif name != "peft_type":
            yield f"    {name}={value!r},"
    yield ")"


def axolotl_lines(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of `axolotl.yaml`; strings in JSON are valid in YAML.

    Args:
        fields: as for `peft_lines`, of LoRA.
    """
    yield "# axolotl passes lora_rank_pattern and lora_alpha_pattern on to PEFT (docs/lora.qmd). Versions before June"
    yield "# 2026 do not know them and train rank lora_r everywhere. Copy these lines into your configuration."
    if any(alpha != int(alpha) for alpha in [fields["lora_alpha"], *fields["alpha_pattern"].values()]):
        yield "# It takes whole numbers only: alpha is rounded, so alpha/r differs slightly from that of the probe."
    yield f"lora_r: {fields['r']}"
    yield f"lora_alpha: {_whole(fields['lora_alpha'])}"
    for theirs, ours in _AXOLOTL.items():
        value = fields.get(ours)
        if isinstance(value, list):
            yield f"{theirs}:"
            yield from (f"  - {dumps(one)}" for one in value)
        elif value:
            yield f"{theirs}: {dumps(value)}"
    for name in ("rank_pattern", "alpha_pattern"):
        if fields[name]:
            yield f"lora_{name}:"
            yield from (f"  {dumps(key)}: {_whole(value)}" for key, value in fields[name].items())


def llama_factory_lines(plan: Plan, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of `llamafactory.yaml`.

    Args:
        plan: the ranks.
        fields: as for `peft_lines`, of LoRA.
    """
    rank = max(1, round(plan.uniform_rank))
    yield "# LLaMA-Factory takes one rank for all modules and no patterns: this is not the plan, but the rank with the"
    yield "# nearest number of parameters."
    yield f"lora_rank: {rank}"
    kept = rank if fields.get("use_rslora") else fields["r"]  # rsLoRA keeps alpha, LoRA alpha/r
    yield f"lora_alpha: {_whole(fields['lora_alpha'] / kept * rank)}"
    yield from (f"{name}: true" for name in ("use_rslora", "use_dora") if fields.get(name))
    names = {one.module.removesuffix(end.group()).rpartition(".")[2] + end.group()
             for one in plan.ranks if one.rank and (end := re.search(r"(\.\d+)*$", one.module))}  # fmt: skip
    yield f"lora_target: {','.join(sorted(names))}"


def _whole(value: float) -> int:
    return max(1, round(value))
