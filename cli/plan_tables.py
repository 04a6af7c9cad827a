"""A plan as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msplora_analysis import Plan


def plan_lines(plan: Plan, width: int) -> Iterator[Any]:
    """Yield the parts to print: the answer, tables of ranks and losses, sentences.

    Args:
        plan: from `plan_ranks`.
        width: columns of the terminal.
    """
    from msplora_analysis.planning.plan_findings import plan_findings

    answer, *more = plan_findings(plan)
    yield answer
    yield f"Rule: {plan.rule}; at least rank {plan.rule.least}."
    yield ""
    yield _ranks_table(plan, width)
    yield ""
    yield _losses_table(plan)
    yield ""
    yield from more
    yield from (f"Note: {note}" for note in plan.notes)


def _ranks_table(plan: Plan, width: int) -> Any:
    """Return a row for each module type or scale, with its ranks in the order of the layers."""
    from rich.table import Table

    from msplora_cli.description import shortened

    modules = plan.modules
    shared = modules["unit"].isna().any()
    table = Table(box=None, pad_edge=False)
    for name in [*(["scale"] if shared else []), "module"]:
        table.add_column(name, no_wrap=True)
    table.add_column("before", justify="right", no_wrap=True)
    table.add_column("planned" if shared else "planned, by layer", overflow="fold")
    table.add_column("kept", justify="right", no_wrap=True)
    groups = list(modules.groupby((["scale"] if shared else []) + ["module"], observed=True, sort=False))
    names = shortened([str(keys[-1]) for keys, _ in groups], max(12, width // 3))
    for name, (keys, rows) in zip(names, groups, strict=True):
        before = sorted(set(rows["rank_before"]))
        kept = float((rows["energy"] * rows["kept"]).sum() / max(rows["energy"].sum(), 1e-300))
        table.add_row(
            *([str(keys[0])] if shared else []),
            name,
            str(before[0]) if len(before) == 1 else f"{before[0]}-{before[-1]}",
            " ".join(str(rank) for rank in rows["rank"]),
            f"{kept:.1%}",
        )
    return table


def _losses_table(plan: Plan) -> Any:
    from rich.table import Table

    parameters = plan.modules[["parameters_before", "parameters"]].sum(skipna=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("mean rank", "parameters", "energy lost", "in the worst module"):
        table.add_column(name, justify="right")
    before, after = (f"{one:,.0f}" if one == one else "–" for one in parameters)
    table.add_row("probe", f"{plan.modules['rank_before'].mean():.3g}", before, "–", "–")
    rows = {"planned": (plan.modules["rank"].mean(), plan.loss, plan.worst),
            "uniform": (plan.uniform_rank, plan.uniform_loss, plan.uniform_worst)}  # fmt: skip
    for name, (rank, loss, (module, worst)) in rows.items():
        table.add_row(name, f"{rank:.3g}", after, f"{loss:.1%}", f"{worst:.1%} ({module})")
    return table
