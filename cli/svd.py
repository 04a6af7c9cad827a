"""`msplora-analyze svd`: what a run or a study learned, in a table, figures and two answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pandas import DataFrame, Series
    from rich.table import Table
    from rich.text import Text

    from msplora_analysis import Analysis

_MEASURES_KEY = """\
M_eff-k, the share of the k largest: high = simple; – where the rank is at most k (1 by definition), or all is zero.
Entropy and stable rank: high = complex."""
_COMPARISONS_KEY = """\
values: how many leading singular values are compared. KL, baseline's and difference: means over pairs of runs.
> 0: how many of these pairs have layers further apart than the baseline's."""

_INTERFERENCE_KEY = """\
Below 0 one undoes part of what the other does; unrelated directions give 0. Between scales: of the steps in weight
space. Layers: of the gradients that they send to the component they share. Interval: over runs, about these tasks."""

_MANY_RUNS = 50


def svd(
    path: Annotated[
        str, typer.Argument(metavar="RUN_OR_STUDY", help="A run, an adapter, or a folder of such; or hf://owner/name.")
    ],
    baseline: Annotated[
        str | None, typer.Option(help="The same, to compare with.", show_default="the LoRA runs in RUN_OR_STUDY")
    ] = None,
    pair: Annotated[
        Literal["task-seed", "position"],
        typer.Option(help="Compare runs on the same model, task and seed, or the first with the first, and so on."),
    ] = "task-seed",
    out: Annotated[
        Path | None, typer.Option(help="Where to write.", show_default="analysis/ in the run or study")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw Fig. 3, Fig. 4 and more.")] = True,
    scale: Annotated[
        Literal["layer", "total"], typer.Option(help="Compare each layer's own component, or all that acts on it.")
    ] = "layer",
    lengths: Annotated[
        Literal["common", "own"],
        typer.Option(help="Compare spectra of unequal length by their common leading values, or each at its own."),
    ] = "common",
    floor: Annotated[
        float | None, typer.Option(help="Raise smaller singular values to this share of the largest before a KL.")
    ] = None,
    epoch: Annotated[
        int | None, typer.Option(min=0, help="Which epoch to compare.", show_default="each run's last")
    ] = None,
    average: Annotated[
        Literal["spectra", "measures"],
        typer.Option(help="Average singular values and then measure, or measure and then average."),
    ] = "spectra",
    module: Annotated[list[str] | None, typer.Option(help="Of adapters: only this module type; repeatable.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Of adapters: alpha, for files that do not hold it.")] = None,
    base: Annotated[Path | None, typer.Option(help="Of full fine-tunes: their base model.")] = None,
    model: Annotated[str | None, typer.Option(help="Of adapters: name of the base model.")] = None,
    task: Annotated[str | None, typer.Option(help="Of adapters: what they were trained on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of adapters: seed of the training.")] = None,
) -> None:
    """Measure every update's spectrum, draw the paper's Fig. 3 and Fig. 4, and say whether its claims hold here.

    Example: msplora-analyze svd runs
    """
    import gc
    import warnings

    gc.set_threshold(200_000)  # loading and drawing make many objects that live long: scanning them frees nothing

    from msplora_analysis import analyse, draw_figures, write_analysis
    from msplora_analysis.report.summary import to_json
    from msplora_cli.console import messages

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category=UserWarning)
        warnings.simplefilter("always", category=RuntimeWarning)
        analysis = analyse(
            path,
            baseline=baseline,
            pair=pair,
            scale=scale,
            lengths=lengths,
            floor=floor,
            epoch=epoch,
            average=average,
            alpha=alpha,
            base=base,
            module=module or (),
            model=model,
            task=task,
            seed=seed,
            n_jobs=-1,
            progress=_tell,
        )
        pictures = draw_figures(analysis) if figures else ()
        written = write_analysis(analysis, out, figures=pictures, n_jobs=-1)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        messages().print(f"warning: {message}", markup=False, soft_wrap=True)
    if as_json:
        print(to_json(analysis), end="")
    else:
        _print(analysis)
    messages().print(f"{len(written)} files in {written[-1].parent}", markup=False, soft_wrap=True)
    if analysis.failed:
        raise typer.Exit(1)


def _tell(done: int, total: int) -> None:
    """Progress of reading, where there is enough to read for it to be of use."""
    from msplora_cli.console import messages

    if total >= _MANY_RUNS and (done % (total // 10) == 0 or done == total):
        end = "\r" if messages().is_terminal and done < total else "\n"
        messages().print(f"read {done:,} of {total:,} runs", end=end, markup=False)


def _print(analysis: Analysis) -> None:
    from msplora_cli.console import data

    console = data()
    width = None if console.is_terminal else 120  # in a file nothing is cut short to 80 columns
    if (analysis.final["rank"] > 1).any():
        console.print(*_measures_tables(analysis), _MEASURES_KEY, *_doubts(analysis), "", width=width, sep="\n")
    if (analysis.final["rank"] == 1).any():
        console.print("Spectra of one singular value have no shape and are left out of the table.", "", sep="\n")
    if any(len(one.layers) > 1 for one in analysis.comparisons):
        console.print(_comparisons_table(analysis), _COMPARISONS_KEY, "", width=width, sep="\n")
    if len(analysis.scores):
        console.print(_scores_table(analysis), "", width=width, sep="\n")
    if len(analysis.interference):
        console.print(_interference_table(analysis), _INTERFERENCE_KEY, "", width=width, sep="\n")
    for line in [*map(str, analysis.claims), *(f"Note: {note}" for note in analysis.notes)]:
        console.print(line, markup=False, soft_wrap=True)


def _measures_tables(analysis: Analysis) -> Iterator[Table]:
    """A table a model; what is the same in all rows stands in its title. Methods with doubtful runs have a mark."""
    final = analysis.final[analysis.final["rank"] > 1]
    marked = [
        f"{name}*" if (model, name) in analysis.doubts else name
        for model, name in final[["model", "method"]].to_numpy()
    ]
    final = final.assign(method=marked)
    for model, rows in final.groupby("model", observed=True, sort=False):
        about = [str(model)] if final["model"].nunique() > 1 else []
        if rows["runs"].nunique() == 1:
            count = rows["runs"].iloc[0]
            about.append(f"{count} run{'s' if count > 1 else ''}" + (" each" if rows["method"].nunique() > 1 else ""))
        yield _measures_table(rows, ": ".join(["How concentrated each scale is", ", ".join(about)] if about else []))


def _doubts(analysis: Analysis) -> Iterator[Text]:
    """What the mark in the table means, a line for each method that has it."""
    from rich.text import Text

    several = analysis.table["model"].nunique() > 1
    for (model, method), words in analysis.doubts.items():
        yield Text(f"* {method}{f' on {model}' if several else ''}: {words}")


def _measures_table(final: DataFrame, title: str) -> Table:
    from rich.text import Text

    from msplora_cli.tables import titled_table

    ratios = [column for column in final.columns if column.startswith("m_eff_") and final[column].notna().any()]
    words = ["method", *(name for name in ("stack", "scale") if final[name].nunique() > 1)]
    counts = ["rank", *(["runs"] if final["runs"].nunique() > 1 else [])]
    headers = [*words, *counts, *(ratio.replace("m_eff_", "M_eff-") for ratio in ratios)]
    table = titled_table(title, [*headers, "entropy", "stable"], left=len(words))
    before: list[str] = [""] * len(words)
    for _, rows in final.groupby(["method", "stack"], observed=True, sort=False):
        shown = rows if set(rows["scale"]) - {"layer", "total"} else rows[rows["scale"] == "layer"]
        for _, row in shown.iterrows():
            names = [str(row[name]) for name in words]
            new = [Text(name if names[: place + 1] != before[: place + 1] else "") for place, name in enumerate(names)]
            numbers = [str(row[name]) for name in counts]
            table.add_row(*new, *numbers, *_numbers(row, ratios, 3), *_numbers(row, ["entropy_rank", "stable_rank"], 2))
            before = names
        if len(shown) > 1:
            table.add_section()
    return table


def _comparisons_table(analysis: Analysis) -> Table:
    from rich.text import Text

    from msplora_cli.tables import titled_table

    shown = [one for one in analysis.comparisons if len(one.layers) > 1]
    place = "stack" if len({one.stack for one in shown}) > 1 else "modules"
    several = len({one.modules for one in shown}) > 1
    words = ["method", "baseline", *([place] if several else []), "scale"]
    table = titled_table(
        "How far apart adjacent layers are: mean KL in nats, both directions",
        [*words, "values", "KL", "baseline's", "difference", "> 0"],
        left=len(words),
    )
    for one in shown:
        where = one.stack if place == "stack" else " ".join(one.modules)
        adjacent, positive = one.adjacent, int((one.pairs["difference"] > 0).sum())
        table.add_row(
            *(Text(name) for name in (one.method, one.baseline, *([where] if several else []))),
            one.scale,
            str(one.lengths[0]) if len(set(one.lengths)) == 1 else "{} / {}".format(*one.lengths),
            f"{adjacent['adjacent_kl']:.3g}",
            f"{adjacent['adjacent_kl_baseline']:.3g}",
            f"{adjacent['difference']:+.3g}",
            f"{positive} of {len(one.pairs)}",
        )
    return table


def _scores_table(analysis: Analysis) -> Table:
    from rich.text import Text

    from msplora_analysis.loading.scores import last_scores
    from msplora_cli.tables import titled_table

    scores = last_scores(analysis.scores)
    scores["name"] = scores["task"] + " " + scores["metric"]
    names = scores["name"].unique()
    table = titled_table("Task metrics at the last epoch, mean over seeds", ["method", *names], left=1)
    for method, rows in scores.groupby("method", sort=False):
        value = rows.set_index("name")["mean"]
        table.add_row(Text(str(method)), *(f"{value[name]:.3f}" if name in value else "–" for name in names))
    return table


def _interference_table(analysis: Analysis) -> Table:
    from rich.text import Text

    from msplora_analysis import interference_by_method
    from msplora_cli.tables import titled_table

    rows = interference_by_method(analysis.interference)
    table = titled_table(
        "Do scales and layers move the same way? Mean cosine over training",
        ["method", "between", "first", "last", "mean", "95% interval", "runs < 0"],
        left=2,
    )
    before = ""
    for _, row in rows.iterrows():
        pair = row["pair"].replace("-", ", ") if row["between"] == "scales" else f"layers, by {row['pair']}"
        interval = f"{row['low']:+.3f} to {row['high']:+.3f}" if row["low"] == row["low"] else "–"
        numbers = (f"{row[name]:+.3f}" for name in ("first", "last", "cosine"))
        negative = f"{round(row['negative'] * row['runs'])} of {row['runs']}"
        table.add_row(Text(row["method"] if row["method"] != before else ""), pair, *numbers, interval, negative)
        before = row["method"]
    return table


def _numbers(row: Series, columns: list[str], digits: int) -> list[str]:
    return ["–" if row[column] != row[column] else f"{row[column]:.{digits}f}" for column in columns]
