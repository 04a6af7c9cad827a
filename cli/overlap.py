"""`msplora-analyze overlap`: which updates point the same way."""

import os
from pathlib import Path
from typing import Annotated

import typer


def overlap(
    path: Annotated[
        str, typer.Argument(metavar="RUN_OR_STUDY", help="A run, an adapter, or a folder of such; or hf://owner/name.")
    ],
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="OTHER", help="Compare with another adapter, seed or epoch of this base; repeatable."
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Instead: intruder dimensions of each adapter, against this base model's folder or file.",
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(help="Groups of layers: a number (3), or the boundaries between them (4,8).", show_default="3"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write.", show_default="analysis/overlap/ in the run or study"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw cosines, shares and subspaces.")] = True,
    module: Annotated[list[str] | None, typer.Option(help="Of adapters: only this module type; repeatable.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Of adapters: alpha, for files that do not hold it.")] = None,
    model: Annotated[str | None, typer.Option(help="Of adapters: name of the base model.")] = None,
    task: Annotated[str | None, typer.Option(help="Of adapters: what they were trained on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of adapters: seed of the training.")] = None,
) -> None:
    """Say which updates point the same way: between layers, over a training, between methods, between adapters.

    With --base, say which leading directions of the adapted weights are foreign to the base model. The report.html
    that svd wrote shows both.

    Example: msplora-analyze overlap runs

    Example: msplora-analyze overlap runs/mrpc-lora --with runs/mrpc-msplora
    """
    if base is not None:
        if with_:
            raise typer.BadParameter("--base and --with are two questions: ask one at a time")
        from msplora_cli.intruders import show_intruders

        show_intruders(path, base, out, alpha=alpha, module=module or [], as_json=as_json, figures=figures)
        return
    import gc

    gc.set_threshold(200_000)  # packages and results are long-lived objects: scanning them frees nothing
    # Processes share the module types; BLAS threads in each process would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from msplora_analysis import overlap as measure_overlap
    from msplora_analysis.report.kept_section import refresh_page
    from msplora_analysis.report.overlap_files import write_overlap
    from msplora_analysis.report.overlap_pictures import draw_overlap
    from msplora_cli.console import say
    from msplora_cli.options import groups_option

    found = measure_overlap(
        path,
        with_=with_ or (),
        groups=None if groups is None else groups_option(groups),
        alpha=alpha,
        module=module or (),
        model=model,
        task=task,
        seed=seed,
        n_jobs=-1,
    )
    written = write_overlap(found, out, figures=draw_overlap(found) if figures else (), n_jobs=-1)
    refresh_page(written[-1].parent)
    for message in dict.fromkeys(found.skipped):
        say(f"warning: left out: {message}")
    if as_json:
        print(written[-1].read_text(encoding="utf-8"), end="")
    else:
        from msplora_cli.overlap_tables import print_overlap

        print_overlap(found)
    say(f"{len(written)} files in {written[-1].parent}")
    if found.failed:
        raise typer.Exit(1)
