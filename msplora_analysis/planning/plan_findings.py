"""A plan in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from msplora_analysis.planning.rank_plan import Plan
from msplora_core.wording import counted

_NAMED = 4
_CLEAR = 0.5
_OVER = {"seeds": "seeds of a task", "tasks": "tasks", "epochs": "epochs, the last three of each run,"}


def plan_findings(plan: Plan) -> Iterator[str]:
    """Yield sentences on what a plan keeps and costs compared with equal ranks, on changed modules, and on stability.

    Args:
        plan: from `plan_ranks`.
    """
    ranks, before = plan.modules["rank"].mean(), plan.modules["rank_before"].mean()
    parameters, of = plan.modules[["parameters", "parameters_before"]].sum(skipna=False)
    size = f" ({parameters:,.0f} of {of:,.0f} parameters)" if of == of else ""
    yield (
        f"A mean rank of {ranks:.3g} instead of {before:.3g}{size} keeps {1 - plan.loss:.1%} of the energy; equal "
        f"ranks of that size keep {1 - plan.uniform_loss:.1%}."
    )
    changed = plan.gains
    more = [f"{name} {gain:+.2g}" for name, gain in changed.items() if gain >= _CLEAR][:_NAMED]
    fewer = [f"{name} {gain:+.2g}" for name, gain in changed[::-1].items() if gain <= -_CLEAR][:_NAMED]
    if more or fewer:
        gained, lost = (", ".join(names) or "none" for names in (more, fewer))
        yield f"Compared with rank {plan.uniform_rank:.3g} everywhere, the largest gains are: {gained}; losses: {lost}."
    for over, pairs, mean, least in plan.stability.itertuples(index=False, name=None):
        if mean == mean:
            values = f"{mean:.2f} on average, at least {least:.2f} ({counted(pairs, 'pair')})"
            yield f"Stability: the ranks planned from single {_OVER[over]} have a rank correlation of {values}."
    if plan.stability.empty:
        yield "Stability: unknown from one run at one epoch; add runs with other seeds."
