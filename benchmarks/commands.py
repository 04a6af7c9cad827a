"""Whole commands: the time a user waits at the command line. No large package is imported here (see `processes`)."""

from __future__ import annotations

import sys

from benchmarks.peers import missing
from benchmarks.processes import apart, costs
from benchmarks.sizes import LLAMA
from benchmarks.target import Line, Target
from benchmarks.timing import Bench

_OURS = "import sys; from msplora_cli.app import main; sys.argv[0] = 'msplora-analyze'; main()"
_NOTHING = """
import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def one(option: int = 1) -> None:
    "Does nothing."


@app.command()
def two(option: int = 1) -> None:
    "Does nothing."


app()
"""


def answers(bench: Bench) -> list[Line]:
    """Help, and a wrong option: there is nothing to compute, so the answer should be immediate."""
    lines = []
    for ours, theirs, code in (
        (["--help"], ["--help"], 0),
        (["svd", "--help"], ["one", "--help"], 0),
        (["svd", "--wrong"], ["one", "--wrong"], 2),
    ):
        found = costs(bench, {"ours": command(*ours), "peer": python(_NOTHING, *theirs)}, code=code, rounds=15)
        work, peer = f"process: {' '.join(ours)}", f"a typer program that does nothing, {' '.join(theirs)}"
        lines.append(Line(work, peer, found["ours"].seconds, found["peer"].seconds, Target("at most", 1.3)))
    return lines


def adapter(bench: Bench) -> list[Line]:
    """The spectra of a LLaMA2-7B adapter from disk: time, and peak memory, which should not grow with its size."""
    twice = LLAMA._replace(matrices=2 * LLAMA.matrices)
    paths = {
        "float32": apart("made:adapter", bench.folder / "float32", LLAMA, "float32"),
        "bfloat16": apart("made:adapter", bench.folder / "bfloat16", LLAMA, "bfloat16"),
        "float32, twice the layers": apart("made:adapter", bench.folder / "twice", twice, "float32"),
    }
    commands = {
        name: command("svd", str(path), "--json", "--no-figures", "--no-report", "--out", str(bench.folder / "out"))
        for name, path in paths.items()
    }
    bare = [*commands["float32"], "--draws", "0"]
    found = costs(bench, {"peer": python("import numpy, pandas"), "no nulls": bare, **commands})
    peer = found["peer"]
    work = "process: svd --json --no-figures, LLaMA2-7B adapter, float32, nulls beside"
    lines = [Line(work, "--draws 0", found["float32"].seconds, found["no nulls"].seconds, Target("over", 0.5))]
    for name in paths:
        work, against = (
            f"process: svd --json --no-figures --no-report, LLaMA2-7B adapter, {name}",
            "import numpy, pandas",
        )
        if "twice" not in name:
            lines.append(Line(work, against, found[name].seconds, peer.seconds, Target("over", 1.0)))
        memory = Target("over", 300, "MB")
        lines.append(Line(f"{work}: peak memory", against, found[name].megabytes, peer.megabytes, memory))
    return lines


def figures(bench: Bench) -> list[Line]:
    """A study with all its figures."""
    work, imports = (
        "process: svd --no-report with all figures, 3 tasks × 2 methods × 30 epochs",
        "import matplotlib, seaborn, pandas",
    )
    commands = {"ours": command("svd", str(apart("made:study", bench.folder / "study")), "--no-report")}
    absent = missing("seaborn")
    if not absent:
        commands["peer"] = python(imports)
    found = costs(bench, commands, rounds=5)
    peer = None if absent else found["peer"].seconds
    return [Line(work, imports, found["ours"].seconds, peer, Target("at most", 2), absent)]


def page(bench: Bench) -> list[Line]:
    """The time that report.html adds to svd."""
    study = str(apart("made:study", bench.folder / "study"))
    found = costs(bench, {"ours": command("svd", study), "peer": command("svd", study, "--no-report")}, rounds=5)
    work = "process: svd with report.html, 3 tasks × 2 methods × 30 epochs"
    return [Line(work, "svd --no-report", found["ours"].seconds, found["peer"].seconds, Target("over", 0.5))]


def command(*arguments: str) -> list[str]:
    """Return the command that runs `msplora-analyze` with these arguments."""
    return python(_OURS, *arguments)


def python(code: str, *arguments: str) -> list[str]:
    """Return the command that runs Python code."""
    return [sys.executable, "-c", code, *arguments]
