"""The words of titles and notes in figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.comparison.layers import LayerDivergence
from msplora_analysis.plots.lettering import m_eff
from msplora_core.methods import title
from msplora_core.wording import counted, listed

if TYPE_CHECKING:
    from pandas import DataFrame

_TASKS = {
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI",
    "rte": "RTE", "wnli": "WNLI",
}  # fmt: skip
_CHANCE = {
    "rotation": "B and A aligned at random",
    "gaussian": "random B and A",
    "mismatch": "B of one layer with A of another",
}
INTERVAL = "95% interval about these tasks"
"""Over runs: other tasks may differ."""
UNTRAINED = "untrained: every update is zero (B = 0)"


def divergence_title(one: LayerDivergence, tasks: Sequence[str] = ()) -> str:
    """Return the title for the KL between the layers of one method."""
    scale = "" if one.scale == "layer" else f", {one.scale}"
    details = [few_names(one.modules), f"leading {one.length} singular values"]
    return heading(
        f"KL between layers: {title(one.method)}{scale}", one.model, tasks, counted(one.runs, "run"), details
    )


def comparison_title(one: Comparison, tasks: Sequence[str] = ()) -> str:
    """Return the title for a method minus its baseline."""
    scale = "" if one.scale == "layer" else f", {one.scale}"
    what = f"KL between layers: {title(one.method)} minus {title(one.baseline)}{scale}"
    return heading(
        what, one.model, tasks, f"{counted(len(one.pairs), 'pair')} of runs", [few_names(one.modules), one.rule]
    )


def heading(what: str, model: str, tasks: Sequence[str] = (), runs: str = "", details: Sequence[str] = ()) -> str:
    """Return a title: what is shown, the tasks, the model, the number of runs, and details.

    Example:
        >>> heading("LoRA r=8", "org/minilm", ["mrpc", "stsb"], "2 runs", ["query, value"])
        'LoRA r=8 on MRPC, STS-B (minilm, 2 runs; query, value)'
    """
    known = few_names([task_title(task) for task in tasks], most=4)
    about = ", ".join(filter(None, [base_title(model), runs]))
    return f"{what}{f' on {known}' if known else ''} ({'; '.join(filter(None, [about, *details]))})"


def base_title(model: str) -> str:
    """Return the name of a base model without its owner.

    Example:
        >>> base_title("org/minilm"), base_title("unknown-d74d32")
        ('minilm', 'base unknown')
    """
    return "base unknown" if model.startswith("unknown-") else model.rsplit("/", 1)[-1]


def name_title(kind: str, name: str) -> str:
    """Return a name as written in titles: the name of a `method` or a `task`; other names stay unchanged."""
    return title(name) if kind == "method" else task_title(name) if kind == "task" else name


def task_title(task: str) -> str:
    """Return the usual spelling of a GLUE task, or a file name without its ending.

    Example:
        >>> task_title("stsb"), task_title("my task"), task_title("disney.safetensors")
        ('STS-B', 'my task', 'disney')
    """
    return _TASKS.get(task, re.sub(r"\.(safetensors|bin|pt|pth|ckpt)$", "", task))


def kind_titles(rows: DataFrame) -> dict[tuple[str, str], str]:
    """Return a title for each method and scale of some rows; the scale is left out where none is shared by layers.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"method": ["lora-r8", "msplora-8-4-2"], "scale": ["layer", "mid"]})
        >>> list(kind_titles(rows).values())
        ['LoRA r=8', 'MSPLoRA 8/4/2, mid']
    """
    pyramids = set(rows.loc[rows["scale"].isin(["global", "mid"]), "method"])
    kinds = rows[["method", "scale"]].drop_duplicates().itertuples(index=False, name=None)
    return {
        (method, scale): f"{title(method)}, {scale}" if method in pyramids or scale == "total" else title(method)
        for method, scale in kinds
    }


_BROAD = {"entropy_rank": "entropy rank", "stable_rank": "stable rank", "participation_ratio": "participation ratio"}


def measure_title(name: str) -> str:
    """Return the typeset name of a measure.

    Example:
        >>> measure_title("entropy_rank")
        'entropy rank'
    """
    return m_eff(int(name.removeprefix("m_eff_"))) if name.startswith("m_eff_") else _BROAD.get(name, name)


def reading(name: str) -> str:
    """Return how to read a measure: its unit, and what a higher value means.

    Example:
        >>> reading("entropy_rank")
        'entropy rank (ranks): higher = broader'
    """
    if name.startswith("m_eff_"):
        return f"{measure_title(name)} (share of 1): higher = more concentrated"
    return f"{measure_title(name)} (ranks): higher = broader"


def null_range(nulls: DataFrame) -> str:
    """Return the caption of the null models' range, which covers 95% of their draws.

    Example:
        >>> import pandas as pd
        >>> null_range(pd.DataFrame({"null": ["rotation"]}))
        '95% of the rotation null (B and A aligned at random)'
    """
    kinds = [f"{kind} null ({_CHANCE.get(kind, 'chance')})" for kind in map(str, nulls["null"].unique())]
    return f"95% of the {' and the '.join(kinds)}"


def null_range_of_runs(nulls: DataFrame) -> str:
    """Return the caption of the null models' range of a run, or of its mean over the runs of the column `runs`.

    Example:
        >>> import pandas as pd
        >>> null_range_of_runs(pd.DataFrame({"null": ["rotation"], "runs": [3]}))
        '95% of the rotation null (B and A aligned at random) of one run, mean over the runs'
    """
    several = "runs" in nulls.columns and nulls["runs"].max() > 1
    over = ", mean over the runs" + (" of a task" if "task" in nulls.columns else "")
    return f"{null_range(nulls)} of one run{over if several else ''}"


def leading(top: int | None, rank: int) -> str:
    """Return a note on how many singular values are shown, or an empty text if all are.

    Example:
        >>> leading(8, 64), leading(8, 4)
        ('8 of 64 singular values shown', '')
    """
    return "" if top is None or rank <= top else f"{top} of {rank} singular values shown"


def few_names(names: Sequence[str], most: int = 3) -> str:
    """Return the names, or the first two and the number of the others.

    Example:
        >>> few_names(["q", "k", "v", "o"]), few_names(["q", "k", "v"])
        ('q, k and 2 more', 'q, k, v')
    """
    known = [name for name in names if name]
    return listed(known, most if len(known) <= most else 2)
