"""A plan as plain values, for `plan.json` and `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msplora_analysis.planning.plan_findings import plan_findings
from msplora_analysis.planning.plan_targets import PlanTargets
from msplora_analysis.planning.rank_plan import Plan
from msplora_core.storage.strict_json import plain

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's `--max-lora-rank` (MaxLoRARanks in vllm/config/lora.py)."""

if TYPE_CHECKING:
    from pandas import DataFrame

FORMAT = "msplora-plan"
VERSION = 1


def summarise_plan(plan: Plan) -> dict[str, Any]:
    """Return the numbers of a plan for strict JSON; unknown ones are null.

    Args:
        plan: from `plan_ranks`.

    Returns:
        format, version, rule, parameters; mean_rank, loss (of all energy) and worst (module, and the share of its own
        energy that it loses) of the plan and of the uniform plan of equal parameters; findings (sentences),
        stability, notes, modules; and vllm_max_lora_rank, which serves all planned ranks (null above 512).
    """
    modules, whole = plan.modules, plan.modules[["parameters_before", "parameters"]].sum(skipna=False)
    summary: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "version": VERSION,
            "rule": str(plan.rule),
            "parameters_before": whole["parameters_before"],
            "parameters": whole["parameters"],
            "planned": {
                "mean_rank": float(modules["rank"].mean()),
                "loss": plan.loss,
                "worst": dict(zip(("module", "loss"), plan.worst, strict=True)),
            },
            "uniform": {
                "mean_rank": plan.uniform_rank,
                "loss": plan.uniform_loss,
                "worst": dict(zip(("module", "loss"), plan.uniform_worst, strict=True)),
            },
            "vllm_max_lora_rank": least_vllm_rank(max(one.rank for one in plan.ranks)),
            "findings": list(plan_findings(plan)),
            "stability": plan.stability.to_dict("records"),
            "notes": plan.notes,
            "modules": modules.astype(object).where(modules.notna(), None).to_dict("records"),
        }
    )
    return summary


def plan_table(plan: Plan, targets: PlanTargets | None = None) -> DataFrame:
    """Return the modules of a plan with their paths, for `plan.csv`.

    Args:
        plan: from `plan_ranks`.
        targets: the modules by their paths. Column `path` is empty without them, and for common ranks of modules.
    """
    table = plan.modules.copy()
    table.insert(0, "path", [targets.path(one) if targets and one.unit is not None else "" for one in plan.ranks])
    return table


def least_vllm_rank(rank: int) -> int | None:
    """Return the lowest value of vLLM's `--max-lora-rank` that serves a rank; None if there is none.

    Example:
        >>> least_vllm_rank(6), least_vllm_rank(300), least_vllm_rank(600)
        (8, 320, None)
    """
    return next((one for one in VLLM_RANKS if one >= rank), None)
