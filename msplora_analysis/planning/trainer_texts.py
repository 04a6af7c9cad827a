"""A plan in the words of trainers, each with what that trainer accepts."""

from __future__ import annotations

import pprint
from collections.abc import Mapping
from typing import Any

from msplora_analysis.planning.plan_targets import PlanTargets
from msplora_analysis.planning.rank_plan import Plan

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's `--max-lora-rank` takes (vllm/config/lora.py)."""


def trainer_texts(plan: Plan, targets: PlanTargets, fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each file for a trainer by its name; of MSPLoRA, which only PEFT can train, `peft.py` alone.

    Args:
        plan: the ranks.
        targets: the modules by their paths.
        fields: the plan in the fields of PEFT (see `trainer_fields`).
    """
    return {"peft.py": _peft(fields)}


def least_vllm_rank(rank: int) -> int | None:
    """Return the lowest value of vLLM's `--max-lora-rank` that serves a rank; None if there is none.

    Example:
        >>> least_vllm_rank(6), least_vllm_rank(300), least_vllm_rank(600)
        (8, 320, None)
    """
    return next((one for one in VLLM_RANKS if one >= rank), None)


def _peft(fields: Mapping[str, Any]) -> str:
    kind, package = ("LoraConfig", "peft") if "r" in fields else ("MSPLoraConfig", "msplora_core")
    arguments = [
        f"    {name}={pprint.pformat(value, indent=1, width=110, sort_dicts=False)},"
        for name, value in fields.items()
        if name != "peft_type"
    ]
    return "\n".join(
        [
            "# Keys of the patterns are full module paths, of which PEFT takes the first that matches.",
            "# Add what else the training needs: task_type, lora_dropout, ...",
            f"from {package} import {kind}",
            "",
            f"config = {kind}(",
            *arguments,
            ")",
            "",
        ]
    )
