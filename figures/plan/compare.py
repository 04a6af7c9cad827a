"""Scores of planned ranks against uniform and shuffled ones: `python figures/plan/compare.py runs/plan`.

Two questions, each with its test, as in the rest of the toolkit: about these tasks, paired by task and seed; and about
tasks like these, by the means of the tasks. The four p values are one family. Writes scores.csv and scores.png beside
this file.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns

from msplora_analysis import correct_family, load_scores, sign_flip_test, task_mean_test

FOLDER = Path(__file__).parent
METRICS = {"mrpc": "accuracy", "sst2": "accuracy", "stsb": "pearson"}
METHODS = {"lora-planned": "planned", "lora-r2": "equal", "lora-shuffled": "shuffled"}

scores = load_scores(sys.argv[1])
scores = scores[(scores["metric"] == scores["task"].astype(str).map(METRICS)) & (scores["epoch"] > 0)]
last = scores.sort_values("epoch").groupby(["method", "task", "seed"], observed=True)["value"].last()
wide = last.unstack("method").rename(columns=METHODS)
wide.to_csv(FOLDER / "scores.csv", float_format="%.6g")
print(wide.round(3).to_string(), end="\n\n")
print(wide.groupby("task", observed=True).mean().round(3).to_string(), end="\n\n")
outcomes = {}
for other in ("equal", "shuffled"):
    differences = wide["planned"] - wide[other]
    tasks = differences.index.get_level_values("task")
    outcomes[f"planned minus {other}, these tasks"] = sign_flip_test(differences.to_numpy())
    outcomes[f"planned minus {other}, tasks like these"] = task_mean_test(differences.to_numpy(), list(tasks))
for name, outcome in zip(outcomes, correct_family(list(outcomes.values()), "the four comparisons"), strict=True):
    print(f"{name}: {outcome}\n")

lines = wide.melt(ignore_index=False, value_name="score").reset_index()
tasks = sorted(METRICS)
figure, axes = plt.subplots(1, len(tasks), figsize=(7, 2.2), layout="constrained")
for ax, task in zip(axes, tasks, strict=True):
    rows = lines[lines["task"] == task]
    for _, run in rows.groupby("seed"):  # one colour: seeds are not ordered
        ax.plot(run["method"], run["score"], color="0.75", linewidth=0.8, zorder=1)
    sns.stripplot(rows, x="method", y="score", color="#4c72b0", size=4, jitter=False, ax=ax)
    sns.pointplot(
        rows, x="method", y="score", color="black", marker="_", markersize=12, linestyle="none", errorbar=None, ax=ax
    )
    ax.set(title=task, xlabel="", ylabel=METRICS[task])
    ax.margins(x=0.2)
figure.savefig(FOLDER / "scores.png", dpi=200)
