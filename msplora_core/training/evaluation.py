"""Evaluate a run's model with EleutherAI's lm-evaluation-harness, and record the scores in the run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike, environ
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msplora_core.conversion import convert_adapter
from msplora_core.errors import (
    MissingDependencyError,
    ParameterError,
    RunDirectoryError,
    UnsupportedAdapterError,
    nearest,
)
from msplora_core.runs import RunDirectory, RunRecord, read_snapshot
from msplora_core.runs.lock import run_lock
from msplora_core.training.attaching.lora_attachments import four_bits
from msplora_core.training.models import model_source, quiet_transformers
from msplora_core.training.smollm2 import SMOLLM2

_ALLOW = "--allow-code-execution"


class PromptFormat(UserWarning):
    """An evaluation has chosen the format of its prompts by default."""


def evaluate_run(
    path: str | PathLike[str],
    tasks: Sequence[str],
    *,
    tasks_dir: Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    model: str | None = None,
    before: bool = False,
    chat_template: bool | None = None,
    allow_code_execution: bool = False,
) -> dict[str, float]:
    """Evaluate a finished run of a causal model and record the scores in the run.

    The adapter is first converted to plain LoRA, so that the harness can load it. The base model is loaded as in
    training, in 4 bits for the method qlora. Scores are recorded as metrics of the run's last epoch, where
    `load_scores` finds them: `bbh_navigate_acc`. A second evaluation of a task replaces the first.

    Args:
        path: the run directory.
        tasks: names of tasks or groups of the harness.
        tasks_dir: folder with your own task files (YAML), which precede those of the harness.
        shots: examples in each prompt; by default the task's.
        limit: evaluate on the first examples of each task only.
        batch_size: prompts at a time.
        model: the base model, if it has moved since the training.
        before: evaluate the base model without the adapter instead, recorded at epoch 0.
        chat_template: write each prompt in the model's chat format. By default as in training, i.e. if the model has
            one, with a `PromptFormat` warning. Scores in different formats cannot be compared.
        allow_code_execution: run Python code: what the model writes, for tasks such as `humaneval`, and code beside
            the task files in `tasks_dir`. There is no sandbox.

    Returns:
        The scores by name.

    Raises:
        RunDirectoryError: if the run is unfinished, still trains, has no snapshot, or its model is not causal.
        FileError: if a line of its metrics is damaged.
        ParameterError: for an unknown task, one that runs code without permission, or one whose data are missing; or
            if the model has no chat format but `chat_template` is set.
        MissingDependencyError: if the package lm-eval is not installed.
    """
    if not tasks:
        raise ParameterError("tasks", expected="at least one task of the harness", found="none")
    run = RunDirectory(path)
    if not RunDirectory.is_run(run.path):
        hint = "of a study, name its runs: runs/*"
        raise RunDirectoryError(run.path, expected="a run directory", found="no run.json", hint=hint)
    record = run.read_record()
    if record.configuration.get("task_type") != "CAUSAL_LM":
        raise RunDirectoryError(
            run.record_path,
            expected="a run of a causal language model",
            found=f"one of type {record.configuration.get('task_type') or 'unknown'}",
        )
    if not record.finished:
        raise RunDirectoryError(run.path, expected="a finished run", found="one that is not", hint="resume it first")
    snapshots = run.snapshot_paths()
    if not snapshots:
        raise RunDirectoryError(run.path, expected="a snapshot at the last epoch", found="none")
    last = read_snapshot(snapshots[-1])
    run.read_metrics()  # it is read again to record the scores: a damaged line is told before they are computed
    base = model or ("smollm2" if record.model == SMOLLM2 else record.configuration.get("base_model_name_or_path"))
    manager = _task_manager(tasks_dir, tasks, allow_code_execution)
    with TemporaryDirectory() as place, quiet_transformers():
        source = model_source(base)
        trained, adapter = (source, None) if before else _trained(run, source, Path(place) / "lora")
        found = _evaluate(
            manager,
            tasks,
            _harness_model(trained, source, adapter, batch_size, **_loading(record)),
            chat_template,
            num_fewshot=shots,
            limit=limit,
            confirm_run_unsafe_code=allow_code_execution,
        )
    scores = flat_scores(found["results"])
    with run_lock(run.path):
        epoch, step = (0, 0) if before else (last.epoch, last.step)
        run.record_scores(epoch, step, scores)
    return scores


def flat_scores(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the harness's results as numbers by name, without standard errors and texts.

    Example:
        >>> flat_scores({"navigate": {"alias": "navigate", "acc,none": 0.5, "acc_stderr,none": 0.1},
        ...              "gsm8k": {"exact_match,strict-match": 0.25}})
        {'navigate_acc': 0.5, 'gsm8k_exact_match_strict-match': 0.25}
    """
    scores = {}
    for task, values in results.items():
        for key, value in values.items():
            metric, _, chosen = key.partition(",")
            if type(value) in (int, float) and chosen and not metric.endswith("_stderr"):
                scores["_".join(part for part in (task, metric, chosen) if part != "none")] = float(value)
    return scores


def _task_manager(tasks_dir: Path | None, tasks: Sequence[str], allow_code_execution: bool) -> Any:
    """The harness's task manager, if every task is known and may run."""
    try:
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise MissingDependencyError("lm-eval", purpose="evaluation", extra="eval") from error
    if tasks_dir is not None:
        _check_folder(tasks_dir, allow_code_execution)
    manager = TaskManager(include_path=str(tasks_dir), include_defaults=False) if tasks_dir else None
    if manager is None or not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=str(tasks_dir) if tasks_dir else None)
    for name in tasks:
        if name not in manager.all_tasks:
            hint = nearest(name, manager.all_tasks)
            raise ParameterError("tasks", expected="a task of the harness or in --tasks-dir", found=name, hint=hint)
        if (manager.task_index[name].cfg or {}).get("unsafe_code") and not allow_code_execution:
            raise _runs_code(name)
    if allow_code_execution:
        environ["HF_ALLOW_CODE_EVAL"] = "1"  # required by the metric that runs the code
    return manager


def _check_folder(folder: Path, allow_code_execution: bool) -> None:
    if not any(folder.rglob("*.yaml")):
        raise ParameterError("tasks_dir", expected="a folder with task files (.yaml)", found=str(folder))
    code = sorted(folder.rglob("*.py"))
    if code and not allow_code_execution:
        raise ParameterError(
            "tasks_dir",
            expected="task files without Python code",
            found=str(code[0]),
            hint=f"{_ALLOW} runs it without a sandbox",
        )


def _runs_code(task: str) -> ParameterError:
    return ParameterError(
        "tasks",
        expected="tasks that run no code",
        found=task,
        hint=f"{_ALLOW} runs code from the model on this machine without a sandbox: use a container",
    )


def _loading(record: RunRecord) -> dict[str, Any]:
    """Further arguments with which the run loaded its base model."""
    if record.hyperparameters.get("method") != "qlora":
        return {}
    return four_bits(bf16=bool(record.hyperparameters.get("bf16")))


def _trained(run: RunDirectory, base: str, folder: Path) -> tuple[str, Path | None]:
    """The model of a run, and the folder of its adapter: converted to plain LoRA in `folder` if possible."""
    if (run.adapter_path / "config.json").is_file():  # a whole model
        return str(run.adapter_path), None
    try:
        convert_adapter(run.path, folder)
    except UnsupportedAdapterError:
        import msplora_core.bottleneck  # noqa: F401 - registers them with PEFT

        return base, run.adapter_path
    return base, folder


def _harness_model(trained: str, base: str, adapter: Path | None, batch_size: int, **loading: Any) -> Any:
    import torch
    from lm_eval.models.huggingface import HFLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not loading:
        peft = str(adapter) if adapter else None
        return HFLM(pretrained=trained, tokenizer=base, peft=peft, device=device, batch_size=batch_size)
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(trained, **loading)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    return HFLM(pretrained=model, tokenizer=base, batch_size=batch_size)


def _evaluate(manager: Any, tasks: Sequence[str], model: Any, chat_template: bool | None, **options: Any) -> Any:
    from lm_eval import simple_evaluate

    try:
        loaded = manager.load(list(tasks))["tasks"]
    except Exception as error:  # the hub's client, the readers of data and of task files raise many types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        hint = f"it says: {reason[0]}"
        raise ParameterError(
            "tasks", expected="tasks whose data can be loaded", found=", ".join(tasks), hint=hint
        ) from error
    for name, task in loaded.items():  # of groups, too
        if getattr(task, "UNSAFE_CODE", False) and not options["confirm_run_unsafe_code"]:
            raise _runs_code(name)
    return simple_evaluate(
        model,
        tasks=list(tasks),
        task_manager=manager,
        apply_chat_template=_in_chat_format(model.tokenizer, chat_template),
        bootstrap_iters=0,
        log_samples=False,
        **options,
    )


def _in_chat_format(tokenizer: Any, wanted: bool | None) -> bool:
    """Whether prompts are written in the model's chat format: as requested, or as in training."""
    has_one = bool(getattr(tokenizer, "chat_template", None))
    if wanted and not has_one:
        raise ParameterError("chat_template", expected="a model with a chat format", found="one without")
    if wanted is None and has_one:
        text = "prompts are in the model's chat format, as in training; --no-chat-template writes plain prompts"
        warnings.warn(text, PromptFormat, stacklevel=2)
    return has_one if wanted is None else wanted
