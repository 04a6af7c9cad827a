"""The table of a study of methods beside LoRA: `python figures/table1/table.py figures/table1/runs`.

Scores are means over seeds ± standard deviation, in percent. Parameters are those that train, the head's included. Time
is that of the processor, an epoch and its evaluation; memory is the process's at its peak, the base model included. The
entropy rank is that of what acts on a layer in all, averaged over layers, modules and runs before it is measured; of
updates of unequal ranks the mean. Each method is held against LoRA by sign flips over runs, paired by task and seed,
and the p values are one family.
"""

import sys
from statistics import median

import pandas as pd

from msplora_analysis import correct_family, last_epochs, load_scores, load_spectra, measure, sign_flip_test
from msplora_core import RunDirectory
from msplora_core.methods import title

BASELINE = "lora-r8"

path = sys.argv[1]
scores = load_scores(path)
metrics = {name: RunDirectory(f"{path}/{name}").read_record() for name in scores["run"].unique()}
scores = scores[scores["metric"] == scores["run"].map(lambda name: metrics[name].metric)]
last = scores.sort_values("epoch").groupby(["method", "task", "seed"])["value"].last().mul(100)

costs = pd.DataFrame([{"method": one.method, "epochs": one.hyperparameters["epochs"], **one.cost}
                      for one in metrics.values()])  # fmt: skip
costs["seconds an epoch"] = costs["cpu_seconds"] / costs["epochs"]
costs["peak MiB"] = costs["peak_bytes"] / 2**20
costs = costs.groupby("method")[["trained_parameters", "seconds an epoch", "peak MiB"]].agg(median)

final = measure(last_epochs(load_spectra(path)), ["model", "method", "stack", "scale"])
whole = final[(final["scale"] == "total") | ~final["method"].isin(final.loc[final["scale"] == "total", "method"])]
parts = whole.groupby(whole["method"].astype(str))  # of AdaLoRA several, at unequal ranks
ranks = parts[["rank", "entropy_rank"]].apply(lambda part: part.mul(whole["components"], axis=0).sum())
ranks = ranks.div(parts["components"].sum(), axis=0)

seeds = last.groupby(["method", "task"]).agg(["mean", "std"])
table = (seeds["mean"].map("{:.1f}".format) + " ± " + seeds["std"].map("{:.1f}".format)).unstack("task")
table["mean"] = last.groupby("method").mean().map("{:.1f}".format)
table = (
    table.join(costs).join(ranks).rename(columns={"trained_parameters": "parameters", "entropy_rank": "entropy rank"})
)
table = table.rename(index=title).sort_values("parameters")
formats = {"parameters": "{:,.0f}", "seconds an epoch": "{:.1f}", "peak MiB": "{:.0f}", "rank": "{:.1f}",
           "entropy rank": "{:.2f}"}  # fmt: skip
print(table.to_string(formatters={name: form.format for name, form in formats.items()}, na_rep="–"), end="\n\n")

wide = last.unstack("method")
others = [method for method in wide if method != BASELINE]
outcomes = [sign_flip_test((wide[method] - wide[BASELINE]).dropna().to_numpy()) for method in others]
for method, outcome in zip(others, correct_family(outcomes, f"{len(others)} methods with LoRA"), strict=True):
    print(f"{title(method)} minus {title(BASELINE)}, percent: {outcome}")
