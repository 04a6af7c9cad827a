"""Presets: the settings of the authors' scripts."""

from __future__ import annotations

from typing import Any

from msplora_core.errors import ParameterError
from msplora_core.training.tasks import task_named

_PAPER_EPOCHS = {"mrpc": 30, "stsb": 40, "cola": 80, "rte": 80, "sst2": 60, "qnli": 25}


def paper_settings(task: str) -> dict[str, Any]:
    """Return the hyper-parameters of the authors' script for a GLUE task, as arguments of `RunConfig`.

    Raises:
        ParameterError: for a task that is not in the paper.

    Example:
        >>> settings = paper_settings("SST-2")
        >>> settings["epochs"], settings["learning_rate"], settings["max_length"]
        (60, 0.0005, 256)
    """
    name = task_named(task).name
    if name not in _PAPER_EPOCHS:
        raise ParameterError("task", expected=f"one of the paper's, {', '.join(_PAPER_EPOCHS)}", found=task)
    return {
        "epochs": _PAPER_EPOCHS[name],
        "batch_size": 64,
        "learning_rate": 5e-4 if name == "sst2" else 4e-4,
        "warmup": 0.06,
        "weight_decay": 0.1,
        "alpha": 16,
        "dropout": 0.05,
        "max_length": 512 if name == "rte" else 256,
    }


def paper_llama_settings(task: str) -> dict[str, Any]:
    """Return the hyper-parameters of the authors' script for LLaMA2-7B on Alpaca, as arguments of `RunConfig`.

    The script computes in float16, this toolkit in bfloat16. Both hold out 2,000 rows of a file of 20,000 rows or more.
    The loss includes the prompts. LoRA has the rank of the paper's Table 2.

    Raises:
        ParameterError: for a task that is not a file of instructions.

    Example:
        >>> settings = paper_llama_settings("alpaca.json")
        >>> settings["ranks"], settings["batch_size"], settings["warmup"]
        ((64, 32, 16), 128, 100)
    """
    if not task_named(task).instructions:
        raise ParameterError("task", expected="a .json or .jsonl file of instructions", found=task)
    return {
        "target_modules": ("q_proj", "v_proj"),
        "ranks": (64, 32, 16),
        "rank": 64,
        "alpha": 16,
        "dropout": 0.05,
        "max_length": 256,
        "batch_size": 128,
        "micro_batch": 4,
        "learning_rate": 3e-4,
        "epochs": 3,
        "warmup": 100,
        "weight_decay": 0.0,
        "loss_on_prompt": True,
        "bf16": True,
    }


PRESETS = {"paper": paper_settings, "paper-llama": paper_llama_settings}
"""Presets by name: functions from a task's name to arguments of `RunConfig`."""


def preset_settings(preset: str | None, task: str) -> dict[str, Any]:
    """Return the settings of a preset for a task; empty if `preset` is None.

    Raises:
        ParameterError: for an unknown preset or task.
    """
    if preset is None:
        return {}
    if preset not in PRESETS:
        raise ParameterError("preset", expected=f"one of {', '.join(PRESETS)}", found=preset)
    return PRESETS[preset](task)
