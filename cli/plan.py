"""`msplora-analyze plan`: which rank each module should have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msplora_cli.options import count_option

if TYPE_CHECKING:
    from msplora_analysis import Plan
    from msplora_core.errors import MSPLoraError

_BUDGET = "How many ranks: at most one of these"


def plan(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Runs, adapters or folders of such, all of one model and method; or hf://owner/name.",
        ),
    ],
    mean_rank: Annotated[
        float | None, typer.Option(help="The parameters that this rank has everywhere.", rich_help_panel=_BUDGET)
    ] = None,
    parameters: Annotated[
        str | None, typer.Option(help="This number of parameters: 150000, 150k, 1.2M.", rich_help_panel=_BUDGET)
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="A share of the probe's parameters: 0.5.", rich_help_panel=_BUDGET)
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            help="For each module, the least rank that keeps this share of its energy: 0.95.", rich_help_panel=_BUDGET
        ),
    ] = None,
    least: Annotated[int, typer.Option(min=0, help="The lowest rank of a module; 0 may leave modules out.")] = 1,
    per_module: Annotated[
        bool,
        typer.Option("--per-module", help="Weigh each module by its own energy: no module loses much, the total more."),
    ] = False,
    shuffle: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="A control: permute the planned ranks among modules at random, with this seed.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for peft.json, axolotl.yaml, kohya.txt, plan.csv, ...",
            show_default="analysis/plan/ in the first PATH, where report.html shows it",
        ),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Alpha, for files that do not hold it.")] = None,
    base: Annotated[Path | None, typer.Option(help="The base model of a full fine-tune.")] = None,
    module: Annotated[
        list[str] | None, typer.Option(help="Only modules of this name. May be repeated.", show_default="all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan the ranks of the next training from the spectra of one: which module needs how many?

    By default the smallest plan that keeps 95 % of all energy (Σσ²). Under a budget each rank goes where the largest σ²
    per parameter remains. Several runs of one method count the same each and show how stable the plan is.

    Plans save parameters; do not expect a better score. In a study of three tasks and three seeds, planned ranks scored
    no better than equal ranks of the same size, nor than the same ranks on other modules (figures/README.md).

    Example: msplora-analyze plan runs/mrpc-lora --mean-rank 4 -o plan

    Example: msplora-analyze plan runs/mrpc-lora --keep 0.9 --json
    """
    from msplora_analysis.loading.several import load_several
    from msplora_analysis.planning.plan_summary import summarise_plan
    from msplora_analysis.planning.rank_plan import plan_ranks
    from msplora_cli.console import data, print_json, say, warnings_told
    from msplora_cli.plan_tables import plan_lines

    reading: dict[str, Any] = {"alpha": alpha, "base": base, "module": module or ()}
    with warnings_told():
        table = load_several(paths, **reading)
    found = plan_ranks(
        table,
        mean_rank=mean_rank,
        parameters=count_option(parameters) if parameters else None,
        keep=keep,
        energy=energy,
        least=least,
        per_module=per_module,
    )
    if shuffle is not None:
        found = found.shuffled(shuffle)
    said, failed = _write(found, paths[0], reading, out)  # before printing, which `| head` ends early
    if as_json:
        print_json(summarise_plan(found))
    else:
        for part in plan_lines(found, data().width):
            data().print(part)
    for line in said:
        say(line)
    if failed and out is not None:
        raise failed


def _write(
    found: "Plan", path: str, reading: dict[str, Any], out: Path | None
) -> "tuple[list[str], MSPLoraError | None]":
    """Write the files for trainers, or if there are none, the others. Return messages, and why they are missing."""
    from msplora_analysis.planning.plan_files import write_plan
    from msplora_analysis.planning.plan_targets import read_plan_targets
    from msplora_analysis.report.homes import home
    from msplora_analysis.report.kept_section import PAGE, refresh_page
    from msplora_analysis.report.plan_pictures import write_plan_picture
    from msplora_core.errors import MSPLoraError, one_line

    folder = out or home(Path(path)) / "plan"
    try:
        targets, failed = read_plan_targets(path, **reading), None
    except MSPLoraError as error:
        targets, failed = None, error
    written = [*write_plan(found, folder, targets), *write_plan_picture(found, folder)]
    refresh_page(folder)
    of_study = next((page for parent in Path(path).parents if (page := home(parent) / PAGE).is_file()), None)
    what = f"{len(written)} files in" if targets else "Wrote plan.csv, plan.json and the picture alone to"
    said = [
        f"{what} {one_line(str(folder))}",
        *(f"note: {one_line(note)}" for note in (targets.notes if targets else ())),
    ]
    if of_study is not None and folder.resolve() != (of_study.parent / "plan").resolve():
        said.append(
            f"{one_line(str(of_study))} shows a plan in its folder: -o {one_line(str(of_study.parent / 'plan'))}"
        )
    if failed and out is None:
        said.append(f"No files for trainers: {failed}")
    return said, failed
