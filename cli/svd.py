"""`msplora-analyze svd`: the analysis of a run or a study, with answers, tables and figures."""

from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from msplora_analysis import Analysis
    from msplora_analysis.report.tables import TextTable

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
        Path | None, typer.Option("--out", "-o", help="Where to write.", show_default="analysis/ in the run or study")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw Fig. 3, Fig. 4 and more.")] = True,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html, the whole analysis as a page.")
    ] = True,
    show: Annotated[bool, typer.Option("--open", help="Open report.html in the browser.")] = False,
    by: Annotated[
        Literal["task", "module"] | None, typer.Option(help="Also draw Fig. 3 and KL by task or module.")
    ] = None,
    log: Annotated[
        bool | None,
        typer.Option(
            "--log/--no-log",
            help="Colours of singular values on a logarithmic scale, and all of the values, not the 8 largest alone.",
            show_default="logarithmic where most would be dark",
        ),
    ] = None,
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
    draws: Annotated[
        int | None,
        typer.Option(min=0, help="Draws of the null models; 0 for none.", show_default="200, fewer if slow"),
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Also write LaTeX tables for a paper.")] = False,
    module: Annotated[list[str] | None, typer.Option(help="Of adapters: only this module type; repeatable.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Of adapters: alpha, for files that do not hold it.")] = None,
    base: Annotated[Path | None, typer.Option(help="Of full fine-tunes: their base model.")] = None,
    model: Annotated[str | None, typer.Option(help="Of adapters: name of the base model.")] = None,
    task: Annotated[str | None, typer.Option(help="Of adapters: what they were trained on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of adapters: seed of the training.")] = None,
) -> None:
    """Measure every update's spectrum, draw the paper's Fig. 3 and Fig. 4, and say whether its claims hold here.

    Example: msplora-analyze svd runs

    Example: msplora-analyze svd runs/mrpc-msplora --baseline runs/mrpc-lora --json
    """
    import gc
    from functools import partial

    gc.set_threshold(200_000)  # loading and drawing make many long-lived objects: scanning them frees nothing

    from msplora_analysis import analyse, draw_figures, write_analysis
    from msplora_cli.console import say, warnings_told
    from msplora_cli.report import how_it_was_made, open_page, while_drawing_loads

    with warnings_told(), _scores_without_spectra(path):
        work = partial(
            analyse,
            path,
            baseline=baseline,
            pair=pair,
            scale=scale,
            lengths=lengths,
            floor=floor,
            epoch=epoch,
            average=average,
            draws=draws,
            alpha=alpha,
            base=base,
            module=module or (),
            model=model,
            task=task,
            seed=seed,
            n_jobs=-1,
            progress=_tell,
        )
        analysis = while_drawing_loads(work) if figures else work()
        pictures = draw_figures(analysis, by=by, log=log) if figures else ()
        written = write_analysis(
            analysis, out, figures=pictures, latex=latex, n_jobs=-1, report=report or show, made=how_it_was_made()
        )
    if as_json:
        print(written[-1].read_text(encoding="utf-8"), end="")  # summary.json
    else:
        _print(analysis)
    say(f"{len(written)} files in {written[-1].parent}")
    if show:
        open_page(written[-1].with_name("report.html"))
    if analysis.failed:
        raise typer.Exit(1)


@contextmanager
def _scores_without_spectra(path: str) -> "Iterator[None]":
    """Print that runs have no spectra, show their scores, and exit; without scores, raise the original error."""
    from msplora_core.errors import UnsupportedAdapterError

    try:
        yield
    except UnsupportedAdapterError as error:
        from msplora_analysis import load_scores
        from msplora_analysis.report.tables import scores_table
        from msplora_cli.console import data, say

        scores = load_scores(path)
        if scores.empty:
            raise
        data().print(_table(scores_table(scores)))
        say(str(error))
        raise typer.Exit from None


def _tell(done: int, total: int) -> None:
    """Show the progress of reading, if there are enough runs."""
    from msplora_cli.console import messages

    if total >= _MANY_RUNS and (done % (total // 10) == 0 or done == total):
        end = "\r" if messages().is_terminal and done < total else "\n"
        messages().print(f"read {done:,} of {total:,} runs", end=end)


def _print(analysis: "Analysis") -> None:
    """The answers, then the tables, then the notes."""

    from msplora_analysis.report.tables import text_tables
    from msplora_cli.claims import claim_lines
    from msplora_cli.console import data

    console = data()
    for line in claim_lines(analysis.claims):
        console.print(line)
    if analysis.claims:
        console.print()
    for table, following in pairwise([*text_tables(analysis), None]):
        assert table is not None
        console.print(_table(table))
        if following is None or following.name != table.name:  # tables of one kind have their key below the last
            keys = [*filter(None, [table.key]), *(_doubts(analysis) if table.name == "measures" else ())]
            console.print(*keys, *([""] if keys else []), sep="\n")
        else:
            console.print()
    if (analysis.final["rank"] == 1).any():
        console.print("Spectra of one singular value have no shape and are left out of the table.", "", sep="\n")
    for note in analysis.notes:
        console.print(f"Note: {note}", soft_wrap=not console.is_terminal)


def _doubts(analysis: "Analysis") -> "Iterator[str]":
    """What the mark in the table means, a line for each method that has it."""

    several = analysis.table["model"].nunique() > 1
    for (model, method), words in analysis.doubts.items():
        yield f"* {method}{f' on {model}' if several else ''}: {words}"


def _table(found: "TextTable") -> "Table":
    """A table for the terminal."""

    from msplora_cli.tables import titled_table

    table = titled_table(found.title, found.headers, left=found.left)
    for place, row in enumerate(found.rows):
        table.add_row(*row, end_section=place in found.sections)
    return table
