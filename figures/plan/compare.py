"""Scores of planned ranks against uniform and shuffled ones: `python figures/plan/compare.py runs/plan`.

Two questions, each with its test, as in the rest of the toolkit: about these tasks, paired by task and seed; and about
tasks like these, by the means of the tasks. The four p values are one family.
"""

import sys

from msplora_analysis import correct_family, load_scores, sign_flip_test, task_mean_test

METRICS = {"cola": "matthews", "mrpc": "accuracy", "sst2": "accuracy", "stsb": "pearson"}

scores = load_scores(sys.argv[1])
scores = scores[(scores["metric"] == scores["task"].astype(str).map(METRICS)) & (scores["epoch"] > 0)]
last = scores.sort_values("epoch").groupby(["method", "task", "seed"], observed=True)["value"].last()
wide = last.unstack("method")
print(wide.round(3).to_string(), end="\n\n")
print(wide.groupby("task", observed=True).mean().round(3).to_string(), end="\n\n")
outcomes = {}
for other in ("lora-r2", "lora-shuffled"):
    differences = wide["lora-planned"] - wide[other]
    tasks = differences.index.get_level_values("task")
    outcomes[f"planned minus {other}, these tasks"] = sign_flip_test(differences.to_numpy())
    outcomes[f"planned minus {other}, tasks like these"] = task_mean_test(differences.to_numpy(), list(tasks))
for name, outcome in zip(outcomes, correct_family(list(outcomes.values()), "the four comparisons"), strict=True):
    print(f"{name}: {outcome}\n")
