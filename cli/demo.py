"""`msplora-analyze demo`: the paper's two figures, from runs trained here and now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_EPOCHS = 8
_BATCH_SIZE = 8
_LEARNING_RATE = 1e-3


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and their analysis.")] = Path("demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was cut off.")] = False,
) -> None:
    """Train LoRA and MSPLoRA on three small generated tasks and draw the paper's figures.

    Nine runs of MiniLM-L6: LoRA (r=8), MSPLoRA (8/4/2) and MSPLoRA (8/8/8) on acceptability, paraphrase and
    similarity of sentences from a small grammar. No network, no data; some minutes on two cores.

    Example: msplora-analyze demo --out demo
    """
    from msplora_cli.svd import svd
    from msplora_cli.train import train

    train(
        task=["acceptability", "paraphrase", "similarity"],
        method=["lora", "msplora"],
        rank=[8],
        ranks=["8,4,2", "8,8,8"],
        epochs=_EPOCHS,
        batch_size=_BATCH_SIZE,
        learning_rate=_LEARNING_RATE,
        out=out,
        resume=resume,
    )
    svd(str(out))
