"""`msplora-analyze demo`: train small runs and draw the paper's two figures from them."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from msplora_core.study import Study
    from msplora_core.study.launcher import Event

_STUDY = Path(__file__).with_name("demo.toml")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and their analysis.")] = Path("demo"),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time.", show_default="one a core, at most 4")
    ] = None,
) -> None:
    """Train LoRA and MSPLoRA on three small generated tasks and draw the paper's figures.

    Nine runs of MiniLM-L6: LoRA (r=8), MSPLoRA (8/4/2) and MSPLoRA (8/8/8) on acceptability, paraphrase and
    similarity of sentences from a small grammar. No network, no data; some minutes on two cores. The first task is
    analysed while the others train. The same command resumes a demo that was cut off.

    Example: msplora-analyze demo --out demo

    Example: msplora-analyze demo --jobs 1
    """
    from msplora_cli.study import train_study
    from msplora_cli.svd import svd
    from msplora_core.study import LocalLauncher, read_study

    study = read_study(_STUDY, out=out)
    with TemporaryDirectory() as folder:
        preview = _Preview(study, Path(folder))
        train_study(study, LocalLauncher(jobs), preview.watch)
        preview.wait()
    svd(str(out))


class _Preview:
    """Analyses the runs of the first task, once finished, in a process that runs during the training."""

    def __init__(self, study: "Study", folder: Path) -> None:
        self.out = study.out / "analysis" / study.tasks[0]
        self.folder = folder
        self.missing = {config.path for config in study.runs({}) if config.task == study.tasks[0]}
        self.said = folder / "said.txt"  # shown when it is complete, so that progress bars stay in one piece
        self.process: subprocess.Popen[bytes] | None = None

    def watch(self, event: "Event") -> None:
        path = event.config.path
        if event.kind == "finished" and path in self.missing:
            self.missing.remove(path)
            (self.folder / path.name).symlink_to(path.resolve())
            if not self.missing:
                command = [sys.executable, "-m", "msplora_cli", "svd", str(self.folder), "--out", str(self.out)]
                with self.said.open("wb") as said:
                    self.process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        elif self.process is not None and self.process.poll() is not None:
            self.wait()

    def wait(self) -> None:
        if self.process is not None:
            self.process.wait()
            self.process = None
            print(self.said.read_text(encoding="utf-8"), flush=True)
