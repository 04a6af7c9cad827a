"""`msplora-analyze study`: train what a study file means, say what is done, print its runs as commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from msplora_cli.add_command import add_command

if TYPE_CHECKING:
    from msplora_core.study import Study
    from msplora_core.study.launcher import Event, Launcher, Watch

study = typer.Typer(
    help="Train the runs that a study file means, on this machine or elsewhere.",
    epilog="Example: msplora-analyze study run study.toml\n\nExample: msplora-analyze study status study.toml",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(metavar="STUDY.TOML", help="The study file.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run directories.", show_default="the file's")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder with the official GLUE files.", show_default="the file's, else the hub")
]


def run(
    file: File,
    out: Out = None,
    data_dir: DataDir = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs at a time, each with its share of the cores.", show_default="one a core, at most 4"
        ),
    ] = None,
    launcher: Annotated[
        Literal["local", "slurm"], typer.Option(help="Where to train: here, or as a Slurm job array.")
    ] = "local",
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Option of sbatch: partition=gpu, time=2:00:00, gpus=1, mem=8G. May be repeated."
        ),
    ] = None,
) -> None:
    """Train what is not finished yet; what was cut off resumes from its last finished epoch.

    Every run is checked before the first trains. A run that fails is reported and does not stop the others; then the
    exit code is 1. Several launchers may share a study: what another process trains is left to it.

    Example: msplora-analyze study run study.toml --jobs 2

    Example: msplora-analyze study run study.toml --launcher slurm --slurm partition=gpu --slurm time=2:00:00
    """
    from msplora_core.study import LocalLauncher, SlurmLauncher

    options = dict(_option(text) for text in slurm or [])
    if options and launcher == "local":
        raise typer.BadParameter("expected with --launcher slurm only", param_hint="--slurm")
    study = _read(file, out, data_dir)
    train_study(study, SlurmLauncher(study.out / "logs", jobs, options) if launcher == "slurm" else LocalLauncher(jobs))


def status(file: File, out: Out = None, data_dir: DataDir = None) -> None:
    """Say what is done, running, failed and to do, and how long the rest takes.

    Example: msplora-analyze study status study.toml

    Example: msplora-analyze study status study.toml --out runs
    """
    from collections import Counter

    from msplora_cli.study_progress import duration
    from msplora_core.study import ledger
    from msplora_core.study.entries import failure_of, log_path, time_left

    entries = ledger(_read(file, out, data_dir))
    for entry in entries:
        part = f"  epoch {entry.epochs}/{entry.config.epochs}" if entry.state != "done" and entry.epochs else ""
        log = f"; log: {log_path(entry.config)}" if failure_of(entry.config) else ""
        failed = f"  {entry.error}{log}" if entry.error else ""
        print(f"{entry.state:8s}{entry.config.path}{part}{failed}")
    count = Counter(entry.state for entry in entries)
    print(", ".join(f"{count[state]} {state}" for state in ("done", "running", "failed", "to do")))
    jobs = max(count["running"], 1)
    left = time_left(entries, jobs)
    if left:
        print(f"time left: about {duration(left)} at {jobs} at a time, by the finished runs")


def commands(file: File, out: Out = None, data_dir: DataDir = None) -> None:
    """Print a `train` command a line for what is not finished yet, for any other engine to run.

    Where learning rates are to be chosen first, these are the commands for that: run them and ask again.

    Example: msplora-analyze study commands study.toml | parallel --jobs 2

    Example: msplora-analyze study commands study.toml --out runs > commands.txt
    """
    import shlex

    from msplora_cli.console import say
    from msplora_cli.train_command import train_command
    from msplora_core.study.running import ledger, open_tuning

    study = _read(file, out, data_dir)
    tuning = {config.path for config in open_tuning(study)}
    for entry in ledger(study):
        if entry.state != "done" and (not tuning or entry.config.path in tuning):
            print(shlex.join(train_command(entry.config)))
    if tuning:
        say("These runs choose the learning rates. Ask again when they are finished.")


for command in (run, status, commands):
    add_command(study, command)


def train_study(study: "Study", launcher: "Launcher", watch: "Watch" = lambda event: None) -> None:
    """Train a study with its progress shown; exit with 1 if a run is not done and no other process is at it.

    Args:
        study: what to train.
        launcher: trains the runs.
        watch: receives their events after they are shown.
    """
    from msplora_cli.console import messages, say
    from msplora_cli.study_progress import StudyProgress
    from msplora_core.study import run_study
    from msplora_core.study.tuning import chosen_rates

    tuning = bool(study.tune and chosen_rates(study).keys() != study.tuning_runs().keys())
    with StudyProgress(messages()) as progress:

        def shown(event: "Event") -> None:
            progress.watch(event)
            watch(event)

        try:
            left = run_study(study, launcher, shown, progress.announce)
        except KeyboardInterrupt:
            messages().print("ended by a signal: its records are kept, the same command resumes it")
            raise
    if tuning:
        for method, rate in chosen_rates(study).items():
            text = f"learning rate of {method}: {rate:g}, all scores in {study.record_path}"
            say(text)
    others = any(entry.state == "running" for entry in left)
    for entry in left:
        if entry.state == "running":
            text = f"trained by another process: {entry.config.path}"
        elif entry.state == "to do" and others:
            text = f"to do: {entry.config.path}: not trained; run the study again when the other process is done"
        else:
            text = f"{entry.state}: {entry.config.path}: {entry.error or 'not trained'}"
        say(text)
    if any(entry.state == "failed" or not others for entry in left):
        raise typer.Exit(1)


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"expected key=value, as in partition=gpu, found {text!r}", param_hint="--slurm")
    return name, value


def _read(file: Path, out: Path | None, data_dir: Path | None) -> "Study":
    from msplora_core.study import read_study

    return read_study(file, out=out, data_dir=data_dir)
