"""Write a plan as files for trainers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from msplora_analysis.planning.kohya_text import kohya_lines
from msplora_analysis.planning.plan_summary import plan_table, summarise_plan
from msplora_analysis.planning.plan_targets import PlanTargets
from msplora_analysis.planning.rank_plan import Plan
from msplora_analysis.planning.trainer_fields import module_ranks, trainer_fields
from msplora_analysis.planning.trainer_texts import axolotl_lines, llama_factory_lines, peft_lines
from msplora_core.errors import FileError
from msplora_core.formats.peft.plan_file import PLAN
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.strict_json import plain


def write_plan(plan: Plan, out: str | os.PathLike[str], targets: PlanTargets | None = None) -> list[Path]:
    """Write a plan to a folder, replacing files of the same names.

    | file | holds |
    |---|---|
    | plan.csv | a row a module: path, ranks before and after, share of its energy kept |
    | plan.json | the same with the expected loss of the whole plan, for reports |
    | peft.json | keyword arguments of `peft.LoraConfig`, or of `MSPLoraConfig`; for `train --plan` |
    | peft.py | the same as Python |
    | axolotl.yaml | `lora_r`, `lora_alpha`, `lora_rank_pattern`, `lora_alpha_pattern` |
    | kohya.txt | `--network_args` of sd-scripts |
    | llamafactory.yaml | one rank for all modules, since it takes no patterns |

    The last three are for LoRA only, and axolotl and LLaMA-Factory for language models only. If the modules belong to
    several models of a pipeline, each has its own folder.

    Args:
        plan: from `plan_ranks`.
        out: the folder.
        targets: the modules by their paths (see `read_plan_targets`); without, only plan.csv and plan.json are written.

    Returns:
        The files written.

    Raises:
        ParameterError: if the plan does not fit the targets.
        FileError: if the folder cannot be written to.
    """
    written = []
    for name, text in _files(plan, targets):
        path = Path(out) / name
        try:
            write_atomically(path, text.encode())
        except FileError as error:
            raise FileError(path.parent, expected="a folder that can be written to", found=error.found) from error
        written.append(path)
    return written


def _files(plan: Plan, targets: PlanTargets | None) -> Iterator[tuple[str, str]]:
    yield "plan.csv", plan_table(plan, targets).to_csv(index=False)
    yield "plan.json", json.dumps(summarise_plan(plan), indent=2) + "\n"
    if targets is None:
        return
    for model in _models(plan, targets):
        folder = f"{model}/" if len(targets.models) > 1 else ""
        fields = plain(trainer_fields(plan, targets, model))
        yield folder + PLAN, json.dumps(fields, indent=2) + "\n"
        yield f"{folder}peft.py", _text(peft_lines(fields))
        if "r" in fields and not targets.models:
            yield f"{folder}axolotl.yaml", _text(axolotl_lines(fields))
            yield f"{folder}llamafactory.yaml", _text(llama_factory_lines(plan, fields))
    if "r" in fields:
        yield "kohya.txt", _text(kohya_lines(plan, targets))


def _models(plan: Plan, targets: PlanTargets) -> list[str]:
    """The models of a pipeline that have a rank above 0 in the plan; an empty name for a single model."""
    ranks = module_ranks(plan, targets)[0] if targets.models else {}
    owners = {path.partition(".")[0] for path, rank in ranks.items() if rank}
    return [model for model in targets.models if model in owners] or [""]


def _text(lines: Iterator[str]) -> str:
    return "\n".join([*lines, ""])
