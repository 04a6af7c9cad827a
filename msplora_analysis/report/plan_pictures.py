"""The picture of a plan, saved in the folder of its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msplora_analysis.plots.paper import figure_of, offscreen
from msplora_analysis.plots.planned_ranks import plot_plan
from msplora_analysis.plots.words import few_names, task_title
from msplora_analysis.report.pictured_study import known_tasks
from msplora_analysis.report.pictures import pictures
from msplora_analysis.report.writing import write_files
from msplora_core.wording import counted

if TYPE_CHECKING:
    from msplora_analysis.planning.rank_plan import Plan


def write_plan_picture(plan: Plan, out: str | os.PathLike[str]) -> list[Path]:
    """Write `plan.png` and `plan.pdf`: planned and equal ranks, and the energy that each module keeps.

    Args:
        plan: from `plan_ranks`.
        out: the folder.

    Returns:
        The files written.

    Raises:
        FileError: if the folder cannot be written to.
    """
    runs = plan.energies.moments
    tasks = few_names([task_title(task) for task in known_tasks(runs)])
    what = f"Planned ranks{f' on {tasks}' if tasks else ''} ({counted(runs['run'].nunique(), 'run')})"
    losses = f"{plan.loss:.1%} of the energy is lost, {plan.uniform_loss:.1%} with equal ranks"
    with offscreen():
        axes = plot_plan(plan.modules, plan.uniform_rank, title=f"{what}, {plan.rule}: {losses}")
        figure = figure_of(axes[0])
    return write_files(Path(out), pictures([("plan", figure)]))
