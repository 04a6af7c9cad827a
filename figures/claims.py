"""The claims of a study as a table in Markdown: `python figures/claims.py figures/minilm/claims.csv`."""

import re
import sys

import pandas as pd

from msplora_core.methods import title

HEADER = ["claim", "of", "about", "verdict", "n", "effect, 95 % interval", "p (least)", "null"]


def cells(row: pd.Series, several: bool) -> list[str]:
    """Return the cells of one test; `several` if the model has several stacks."""
    of = " ".join(filter(None, [title(row["method"]), row["scale"]]))
    of += f" against {title(row['baseline'])}" if row["baseline"] else ""
    of += f", {row['stack'].rpartition(' ')[2].replace('x', ' × ')}" if several else ""
    verdict = row["verdict"] if row["verdict"] == "not decided" else f"**{row['verdict']}**"
    interval = f" ({row['low']:.2g} to {row['high']:.2g})" if row["low"] == row["low"] else ""
    least = f" ({row['least_p']:.2g})" if row["least_p"] == row["least_p"] else ""
    return [row["number"], of, row["question"].removeprefix("about "), verdict, f"{row['n']} {row['of']}",
            f"{row['effect']:+.2g} {row['unit']}{interval}", f"{row['p']:.2g}{least}", row["null"] or "0"]  # fmt: skip


table = pd.read_csv(sys.argv[1])
words = ["scale", "baseline", "null", "stack"]
table[words] = table[words].fillna("")
told = table[table["verdict"] != "cannot tell"]  # the others have no numbers
found = [cells(row, table["stack"].nunique() > 1) for _, row in told.iterrows()]
before = [""] * len(HEADER)
for row in [HEADER, ["---"] * len(HEADER), *found]:
    same = row[:2] == before[:2]
    shown = [*(["", ""] if same else row[:2]), *row[2:-1], "" if same and row[-1] == before[-1] else row[-1]]
    print("|", " | ".join(re.sub(r"(?<![\w-])-(?=\d)", "−", cell) for cell in shown), "|")
    before = row
