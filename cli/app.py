"""The application: its commands and its handling of errors.

Command modules do not use `from __future__ import annotations`: typer would evaluate each annotation twice, which takes
a tenth of the time of `--help`.
"""

import atexit
import gc
import logging
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from msplora_cli.add_command import add_command
from msplora_cli.convert import convert
from msplora_cli.demo import demo
from msplora_cli.evaluate import evaluate
from msplora_cli.inspect import inspect
from msplora_cli.overlap import overlap
from msplora_cli.params import params
from msplora_cli.plan import plan
from msplora_cli.report import report
from msplora_cli.study import study
from msplora_cli.svd import svd
from msplora_cli.train import train
from msplora_cli.train_options import method_lines
from msplora_core.errors import MSPLoraError, training_needs

app = typer.Typer(
    name="msplora-analyze",
    help="The spectral microscope for adapters: what did a fine-tuning learn, layer by layer?",
    epilog="Example: msplora-analyze demo --out demo\n\nExample: msplora-analyze svd runs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"msplora {version('msplora')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


for command in (demo, inspect, params, train, evaluate, svd, overlap, plan, report, convert):
    add_command(app, command, method_lines() if command is train else "")
app.add_typer(study, name="study")


def main() -> None:
    """Run the application. An `MSPLoraError` ends it with one line on standard error and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an encoding without σ, as on old Windows consoles, is no error
            stream.reconfigure(errors="replace")
    atexit.register(gc.freeze)  # else Python looks for garbage among all objects, which takes 0.1 s, before it ends
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it, and it warns of a kernel that it lacks
    try:
        app()
    except MSPLoraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        print(f"error: {training_needs(error, 'this command')}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
