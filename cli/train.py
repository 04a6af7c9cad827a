"""`msplora-analyze train`: train adapters and record their spectra."""

from pathlib import Path
from typing import Annotated

import typer

from msplora_cli.train_options import run_configs
from msplora_core.method_list import METHODS

_WHAT, _DATA, _ADAPTER, _TRAINING = "What to train", "Data and model", "Adapter", "Training"


def train(
    task: Annotated[
        list[str],
        typer.Option(
            help="cola, mrpc, stsb, rte, sst2 or qnli; or a .json or .jsonl file of instructions with answers, for a "
            "causal model. May be repeated.",
            rich_help_panel=_WHAT,
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(METHODS)}: see below. May be repeated.", show_default="msplora", rich_help_panel=_WHAT
        ),
    ] = None,
    ranks: Annotated[
        list[str] | None,
        typer.Option(
            help="Ranks of MSPLoRA: global, mid, layer; 0 leaves one out. May be repeated.",
            show_default="8,4,2",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    rank: Annotated[
        list[int] | None,
        typer.Option(
            help="Rank of the other methods. May be repeated.",
            show_default="the method's; 8 for LoRA",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Of method peft: an adapter_config.json with a method of PEFT and its options.",
            show_default="none",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another option of the method, by its name in PEFT: bias=all. May be repeated.",
            show_default="as in PEFT",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="May be repeated.", show_default="0", rich_help_panel=_WHAT)
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder that receives one run directory a combination.", rich_help_panel=_WHAT)
    ] = Path("runs"),
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the last finished epoch. Finished runs are left as they are, unless --epochs is now "
            "higher: then they continue to these, with the learning rate that a run of so many epochs has there, "
            "which is higher than the one they ended with. For that a finished run keeps its last checkpoint, with the "
            "optimiser: a few times the size of what it trains. To save the space, delete its folder checkpoints.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the official GLUE files, as in CoLA/train.tsv, or with the files of instructions.",
            show_default="the Hugging Face hub; for instructions the current folder",
            rich_help_panel=_DATA,
        ),
    ] = None,
    max_train_examples: Annotated[
        int | None,
        typer.Option(help="Train on a fixed random choice of so many.", show_default="all", rich_help_panel=_DATA),
    ] = None,
    random_labels: Annotated[
        bool,
        typer.Option("--random-labels", help="Permute the labels once, as a control.", rich_help_panel=_DATA),
    ] = False,
    max_eval_examples: Annotated[
        int | None,
        typer.Option(help="Evaluate on a fixed random choice of so many.", show_default="all", rich_help_panel=_DATA),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Local folder or hub id, or smollm2: SmolLM2-135M-Instruct, packaged. Instructions need a causal "
            "language model. A GLUE task takes an encoder or a causal language model, which gets a new head.",
            show_default="all-MiniLM-L6-v2, packaged",
            rich_help_panel=_DATA,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens of an example; longer ones are cut.", show_default="256", rich_help_panel=_DATA),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Module type to adapt. May be repeated.",
            show_default="the model's query and value",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Groups of layers, or the boundaries between them: 4,8.",
            show_default="3, or as many as there are layers",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            help="Updates are scaled by alpha/rank; one for all scales, or three: 16,8,4.",
            show_default="the method's; 16 for LoRA",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    rslora: Annotated[
        bool, typer.Option("--rslora", help="Scale by alpha/√rank instead.", rich_help_panel=_ADAPTER)
    ] = False,
    rank_pattern: Annotated[
        list[str] | None,
        typer.Option(
            help="Other ranks for a module type: value=4,2,1 for MSPLoRA, value=4 for LoRA. May be repeated.",
            show_default="none",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            help="What `plan --out` wrote: it says method, ranks, α and modules. {task} and {seed} stand for those of "
            "the run.",
            show_default="none",
            rich_help_panel=_ADAPTER,
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Initialisation: kaiming, gaussian or orthogonal.", show_default="kaiming", rich_help_panel=_ADAPTER
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(help="Before the adapter.", show_default="the method's; 0.05 for LoRA", rich_help_panel=_ADAPTER),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="The settings of the authors' scripts: paper for each GLUE task, paper-llama for instructions. "
            "Options given beside it win.",
            show_default="none",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(show_default="10", rich_help_panel=_TRAINING)] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Over all processes together.", show_default="32", rich_help_panel=_TRAINING),
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            help="Examples that a process computes at a time, to save memory.",
            show_default="its share of the batch",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="At its peak; it falls linearly to 0.", show_default="4e-4", rich_help_panel=_TRAINING),
    ] = None,
    warmup: Annotated[
        float | None,
        typer.Option(
            help="Share of the steps over which the learning rate rises; from 1 on their number.",
            show_default="0.06",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(show_default="0.1", rich_help_panel=_TRAINING)] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Train MSPLoRA scale by scale, in phases of equal length: global,mid,layer or global,mid+layer.",
            show_default="all at once",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    loss_on_prompt: Annotated[
        bool | None,
        typer.Option(
            help="Of instructions, learn the prompts, too.",
            show_default="the answers alone",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Compute layers twice: less memory, more time.",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
    bf16: Annotated[
        bool | None,
        typer.Option(
            help="Autocast to bfloat16; weights of a causal model are loaded in it.",
            show_default="no",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    spectra_every: Annotated[
        int, typer.Option(help="Record spectra after every so many epochs.", rich_help_panel=_TRAINING)
    ] = 1,
    spectra_steps: Annotated[
        int | None,
        typer.Option(
            help="Also record spectra every so many steps: for a training of one epoch.", rich_help_panel=_TRAINING
        ),
    ] = None,
    interference: Annotated[
        bool,
        typer.Option(
            "--interference",
            help="Record whether the scales of MSPLoRA, and the layers that share a component, move the same way.",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
) -> None:
    """Train models on GLUE tasks or instructions and record the spectra of every epoch.

    Each combination of task, method, ranks and seed becomes one run directory.

    Example: msplora-analyze train --task mrpc --method lora --method msplora --data-dir glue --epochs 10

    Example: msplora-analyze train --task cola --method lora --rank 4 --rank 8 --seed 0 --seed 1 --out runs
    """
    configs = run_configs(locals())
    from msplora_cli.trainings import train_all

    train_all(configs, resume=resume)
