"""`msplora-analyze evaluate`: scores of lm-evaluation-harness for a run's model."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished runs of a causal model.")],
    tasks: Annotated[str, typer.Option(help="Tasks or groups of the harness, as in mmlu,bbh,drop.")],
    tasks_dir: Annotated[
        Path | None, typer.Option(help="Folder with task files (YAML) of your own.", show_default="none")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Examples in each prompt.", show_default="as the task says")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evaluate on the first N examples of each task.", show_default="all")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts at a time.")] = 8,
    model: Annotated[
        str | None, typer.Option(help="The base model: folder or hub id.", show_default="where the run found it")
    ] = None,
    before: Annotated[
        bool, typer.Option("--before", help="Evaluate the base model without the adapter, recorded at epoch 0.")
    ] = False,
    chat_template: Annotated[
        bool | None,
        typer.Option(
            "--chat-template/--no-chat-template",
            help="Write prompts in the model's chat format.",
            show_default="as in training: if the model has one",
        ),
    ] = None,
    allow_code_execution: Annotated[
        bool,
        typer.Option(
            "--allow-code-execution",
            help="Run Python code on this machine without a sandbox: what the model writes, for humaneval and the "
            "like, and what stands beside your task files.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate a run's model by lm-evaluation-harness and record the scores in the run.

    svd, reports and studies show them beside the task's own.

    Example: msplora-analyze evaluate runs/alpaca-msplora-64-32-16-seed0 --tasks mmlu,bbh,drop

    Example: msplora-analyze evaluate runs/gsm8k-lora-r8-seed0 --tasks bbh_local --tasks-dir tasks --limit 50
    """
    from msplora_cli.console import data, print_json, shown_warnings
    from msplora_core.training.evaluation import PromptFormat, evaluate_run

    with shown_warnings(PromptFormat):
        found = {
            str(one): evaluate_run(
                one,
                [name for name in tasks.split(",") if name],
                tasks_dir=tasks_dir,
                shots=shots,
                limit=limit,
                batch_size=batch_size,
                model=model,
                before=before,
                chat_template=chat_template,
                allow_code_execution=allow_code_execution,
            )
            for one in run
        }
    if as_json:
        print_json(found)
        return
    for name, scores in found.items():
        for score, value in scores.items():
            data().print(f"{name}  {score}  {value:.4f}", soft_wrap=True)
