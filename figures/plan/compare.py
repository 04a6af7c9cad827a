"""Scores of planned ranks against uniform and shuffled ones: `python figures/plan/compare.py [runs/plan]`.

Two questions, each with its test, as in the rest of the toolkit: about these tasks, paired by task and seed; and about
tasks like these, by the means of the tasks. The four p values are one family. Writes scores.csv and scores.png beside
this file; without runs it reads scores.csv.
"""

import sys
from pathlib import Path

import pandas as pd

from msplora_analysis import correct_family, load_scores, sign_flip_test, task_mean_test
from msplora_analysis.plots.canvas import Frame, Row
from msplora_analysis.plots.colours import SCALE_COLOURS
from msplora_analysis.plots.paper import paper_style
from msplora_analysis.plots.words import task_title

FOLDER = Path(__file__).parent
METRICS = {"mrpc": "accuracy", "sst2": "accuracy", "stsb": "Pearson"}
METHODS = {"lora-planned": "planned", "lora-r2": "equal", "lora-shuffled": "shuffled"}

if sys.argv[1:]:
    scores = load_scores(sys.argv[1])
    scores = scores[(scores["metric"] == scores["task"].astype(str).map(METRICS).str.lower()) & (scores["epoch"] > 0)]
    last = scores.sort_values("epoch").groupby(["method", "task", "seed"], observed=True)["value"].last()
    last.unstack("method").rename(columns=METHODS).to_csv(FOLDER / "scores.csv", float_format="%.6g")
wide = pd.read_csv(FOLDER / "scores.csv", index_col=["task", "seed"])[list(METHODS.values())]
print(wide.round(3).to_string(), end="\n\n")
print(wide.groupby("task").mean().round(3).to_string(), end="\n\n")
outcomes = {}
for other in ("equal", "shuffled"):
    differences = wide["planned"] - wide[other]
    tasks = differences.index.get_level_values("task")
    outcomes[f"planned minus {other}, these tasks"] = sign_flip_test(differences.to_numpy())
    outcomes[f"planned minus {other}, tasks like these"] = task_mean_test(differences.to_numpy(), list(tasks))
for name, outcome in zip(outcomes, correct_family(list(outcomes.values()), "the four comparisons"), strict=True):
    print(f"{name}: {outcome}\n")

with paper_style():
    title = "LoRA of mean rank 2: planned, equal and shuffled ranks (MiniLM-L6, 3 seeds each)"
    (axes,), _ = Frame(left=0.44, gap=0.5).lay_out([Row([1.1] * len(METRICS), below=0.34)], title=title)
    for ax, (task, metric) in zip(axes, METRICS.items(), strict=True):
        runs = wide.loc[task]
        for _, run in runs.iterrows():  # one colour: seeds are not ordered
            ax.plot(run.to_numpy(), color="0.75", linewidth=0.8)
        for place, name in enumerate(runs):
            ax.plot([place] * len(runs), runs[name], "o", color=SCALE_COLOURS["layer"], markersize=3)
            ax.plot([place - 0.2, place + 0.2], [runs[name].mean()] * 2, color="black", linewidth=1.6)
        ax.set(title=task_title(task), ylabel=metric, xticks=range(3), xlim=(-0.4, 2.4))
        ax.set_xticklabels(runs, rotation=30, ha="right", rotation_mode="anchor")
        ax.locator_params(axis="y", nbins=4)
    axes[0].figure.savefig(FOLDER / "scores.png", dpi=300)
