"""The paper's question about directions: does MSPLoRA remove redundancy that plain LoRA has?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from msplora_analysis.comparison.baseline import is_plain
from msplora_analysis.comparison.conditions import lora_command
from msplora_analysis.comparison.pairing import counterparts
from msplora_analysis.loading.settings import Settings
from msplora_analysis.statistics.differences import sign_flip_test, task_mean_test
from msplora_analysis.statistics.verdicts import Verdict, verdict
from msplora_core.errors import ComparisonError
from msplora_core.methods import is_trained, title

if TYPE_CHECKING:
    from pandas import DataFrame

QUESTION = "MSPLoRA removes redundancy that LoRA has"
NEGLIGIBLE = 0.01
"""An excess below this share of the energy is negligible, even if it is significant."""
_RUN = ["run", "method", "model", "task", "seed"]


@dataclass(frozen=True)
class Redundancy:
    """Whether the layers' own components of a method share less than the layers of LoRA.

    Args:
        method: a method with shared components.
        baseline: LoRA of the rank of its layers' own components; empty if there is none.
        model: of both.
        verdict: the answer.
        numbers: the measured values, in words.
        differences: one for each pair of runs, in shares of the energy; positive if the method shares less.
        tasks: the task of each difference.
    """

    method: str
    baseline: str
    model: str
    verdict: Verdict
    numbers: str = ""
    differences: Sequence[float] = ()
    tasks: Sequence[str] = ()

    def __str__(self) -> str:
        answer, _, facts = str(self.verdict).partition(": ")
        what = f"{self.method} on {self.model}" if self.model else self.method
        return f"{QUESTION}: {answer} for {what} ({'; '.join(filter(None, (self.numbers, facts)))})"


def run_excess(sharing: DataFrame) -> DataFrame:
    """Return the excess of each run at each scale: the mean over its module types, a row a run and scale.

    Runs whose updates are zero are left out.

    Args:
        sharing: from an `Overlap`.
    """
    keys = [*_RUN, "scale"]
    found = sharing.groupby(keys, observed=True, dropna=False, sort=False).agg(
        rank=("rank", "max"), excess=("excess", "mean"), deviation=("deviation_own", _root_mean)
    )
    return found.reset_index().dropna(subset="excess")


def excess_by_method(sharing: DataFrame) -> DataFrame:
    """Return the mean excess of each method at each scale over its runs, with 95% t intervals over runs and over tasks.

    Returns:
        A row a model, method and scale: runs, tasks, rank, excess, `low` and `high` (of the mean over the runs, the
        replicates; NaN for one), `tasks_low` and `tasks_high` (of the mean over the tasks, about tasks like these; NaN
        for one), deviation (standard deviation of one run whose layers share nothing).
    """
    import pandas as pd

    rows = []
    for names, part in run_excess(sharing).groupby(["model", "method", "scale"], observed=True, sort=False):
        tasks = part["task"].where(part["task"] != "", part["run"])
        here, beyond = (task_mean_test(part["excess"], groups.tolist()) for groups in (part["run"], tasks))
        rows.append([*names, here.n, beyond.n, part["rank"].max(), here.effect, here.low, here.high, beyond.low,
                     beyond.high, part["deviation"].mean()])  # fmt: skip
    return pd.DataFrame(rows, columns=["model", "method", "scale", "runs", "tasks", "rank", "excess", "low", "high",
                                       "tasks_low", "tasks_high", "deviation"])  # fmt: skip


def redundancy(sharing: DataFrame, settings: Settings) -> list[Redundancy]:
    """Answer the question for each method whose layers share components.

    The excess of a run (shared energy minus that of layers with random directions) is the mean over its module types.
    The layers' own components are compared with LoRA of their rank, on the same model, task and seed.

    Args:
        sharing: from an `Overlap`.
        settings: of the runs, for the command that trains a baseline.
    """
    each = run_excess(sharing)
    answers = []
    for names, ours in each.groupby(["model", "method"], observed=True, sort=False):
        model, method = map(str, names)
        if "total" not in set(ours["scale"]) or not is_trained(method):
            continue
        own = ours[ours["scale"] == "layer"]
        if own.empty:
            reason = "the layers' own components are unknown without saved adapters"
            answers.append(Redundancy(method, "", model, Verdict("cannot tell", reason=reason)))
            continue
        rank = int(own["rank"].max())
        plain = each[(each["model"] == model) & each["method"].map(is_plain) & (each["rank"] == rank)]
        try:
            if plain.empty:
                raise ComparisonError(f"there is no LoRA of rank {rank}, the rank of the layers' own components")
            pairs = counterparts(own, plain)
        except ComparisonError as error:
            step = lora_command(model, own, settings, rank=rank)
            answers.append(Redundancy(method, "", model, Verdict("cannot tell", reason=str(error), next_step=step)))
            continue
        for baseline, part in pairs.groupby("method_baseline", sort=False):
            answers.append(_answer(method, str(baseline), model, part, own, plain, ours))
    return answers


def _answer(
    method: str, baseline: str, model: str, pairs: DataFrame, own: DataFrame, plain: DataFrame, ours: DataFrame
) -> Redundancy:
    mine = own.set_index("run")["excess"][pairs["run"]].to_numpy()
    its = plain.set_index("run")["excess"][pairs["run_baseline"]].to_numpy()
    differences = its - mine
    total = ours[ours["scale"] == "total"]["excess"].mean()
    deviation = plain["deviation"].mean()
    spread = f" ({its.min():+.4f} to {its.max():+.4f})" if len(its) > 1 else ""
    numbers = (
        f"compared with random directions, the layers of {title(baseline)} share {its.mean():.4f} more of their energy"
        f"{spread}, the layers' own components of {title(method)} {mine.mean():.4f}; including shared components "
        f"{total:.3f}"
    )
    null = f"0 ± {deviation:.4f} for one run whose layers share nothing"
    found = verdict(sign_flip_test(differences), unit="of the energy", null=null)
    if (its < NEGLIGIBLE).all():
        reason = f"LoRA's layers share less than {NEGLIGIBLE:g} of their energy in every run: nothing to remove"
        found = Verdict(
            "contradicted", found.question, found.n, found.of, found.effect, found.unit, found.interval, found.p,
            found.least_p, null, reason,
        )  # fmt: skip
    return Redundancy(
        method, baseline, model, found, numbers, tuple(differences.tolist()), tuple(map(str, pairs["task"]))
    )


def _root_mean(deviations: DataFrame) -> float:
    """Standard deviation of the mean of independent numbers with these deviations."""
    return float(np.sqrt(np.square(deviations).sum()) / len(deviations))
