"""The configuration of MSPLoRA: that of `peft.LoraConfig`, with a pyramid instead of one rank."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal, Self

from peft import PeftConfig

from msplora_core.adapter.model_card import describe_loading
from msplora_core.adapter.registration import NAME, method_type
from msplora_core.errors import ParameterError
from msplora_core.pyramid import SCALES, check_ranks

INITIALISATIONS = (True, False, "gaussian", "orthogonal")


@dataclass
class MSPLoraConfig(PeftConfig):
    """Configuration of MSPLoRA, for `peft.get_peft_model` in place of `peft.LoraConfig`.

    Args:
        ranks: ranks of (global, mid, layer); 0 leaves a scale out.
        groups: number of groups into which a stack's layers are divided by depth, or the boundaries: the first
            layer of every group but the first, ascending. By default 3, or the number of layers if less. Only the
            mid scale uses it.
        lora_alpha: α, one for all scales or one per scale; the update is scaled by α/r at each scale.
        lora_dropout: probability with which an input of the adapter is dropped.
        target_modules: names or regular expression of the modules to adapt, or "all-linear"; by default PEFT's
            choice for LoRA on this architecture.
        exclude_modules: names or regular expression of modules to exclude.
        bias: which biases to train: "none", "all", or "lora_only" (those of the adapted modules).
        use_rslora: scale by α/√r instead of α/r.
        use_dora: train the norm of each row of the adapted weights separately from its direction, as DoRA does
            (arXiv 2402.09353). Layers share components but not norms, which belong to the layer scale.
        init_lora_weights: initialisation. True: A Kaiming-uniform, B zero; "gaussian": A normal, B zero;
            "orthogonal": A and B random with B·A = 0 (even ranks); False: both random, so that the update is not
            zero.
        rank_pattern: ranks of the modules whose path a pattern matches, by the rules of PEFT. A pattern must match
            all layers of a module type or none, since they share components.
        alpha_pattern: α, one or three, of the modules whose path a pattern matches.
        fan_in_fan_out: whether adapted weights are transposed, as in GPT-2's `Conv1D`; set when the adapter is
            attached, from the modules themselves.
        modules_to_save: modules to train in full and to save with the adapter.
        target_parameters: parameters to adapt directly instead of modules, by the ends of their paths, such as
            `mlp.experts.down_proj`: a matrix, or a stack of the matrices of several experts. Each expert has its own
            updates of these ranks and shares them with the same expert of other layers. Not with dropout or DoRA.
        trainable_token_indices: tokens whose embeddings are trained and saved beside the adapter: their indices in
            the input embedding, or indices by the name of an embedding. That embedding cannot be a target, too.
        layers_to_transform: layers to adapt, by index.
        layers_pattern: name of the list of layers that `layers_to_transform` indexes.
        placement: the place of each adapted module. Set when the adapter is attached, and saved with it, so that
            the adapter can be read without the model. By path: `module` (name of the module type; modules of the
            same name share), `layer` (index in its stack; null outside any stack, where only a layer component
            exists), `group`, `scaling` by scale, and `embedding` for an embedding, whose matrices are transposed.
            The file of weights holds each component once, as `base_model.model.<path>.msplora_<scale>.A` (r × in)
            and `.B` (out × r), under the first path that it serves. A path is served at the global scale by the
            component of its module, at the mid scale by that of its module and group, at the layer scale by its own.

    Raises:
        ParameterError: for an invalid value.

    Example:
        >>> MSPLoraConfig(ranks=(8, 4, 2), groups=3, target_modules=["query", "value"]).ranks
        (8, 4, 2)
        >>> MSPLoraConfig(lora_dropout=2.0)
        Traceback (most recent call last):
        msplora_core.errors.ParameterError: lora_dropout: expected a number from 0 up to, not including, 1, found 2.0
    """

    ranks: tuple[int, int, int] = (8, 4, 2)
    groups: int | tuple[int, ...] | None = None
    lora_alpha: float | tuple[float, float, float] = 16
    lora_dropout: float = 0.0
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: bool | Literal["gaussian", "orthogonal"] = True
    rank_pattern: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    alpha_pattern: dict[str, float | tuple[float, float, float]] = field(default_factory=dict)
    fan_in_fan_out: bool = False
    modules_to_save: list[str] | None = None
    target_parameters: list[str] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    placement: dict[str, dict[str, Any]] | None = None

    def __new__(cls, *_: Any, **fields: Any) -> Self:
        if "r" in fields:  # the name of the rank in LoraConfig
            raise ParameterError(
                "r",
                expected="no r, but ranks=(global, mid, layer), for example ranks=(8, 4, 2)",
                found=fields["r"],
            )
        config: Self = super().__new__(cls)
        return config

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = method_type(NAME)
        self.ranks = check_ranks(self.ranks)
        self.lora_alpha = _checked_alpha("lora_alpha", self.lora_alpha)
        self.groups = _checked_groups(self.groups)
        self.rank_pattern = {
            pattern: check_ranks(ranks, f"rank_pattern[{pattern!r}]") for pattern, ranks in self.rank_pattern.items()
        }
        self.alpha_pattern = {
            pattern: _checked_alpha(f"alpha_pattern[{pattern!r}]", alpha)
            for pattern, alpha in self.alpha_pattern.items()
        }
        for name in ("target_modules", "exclude_modules", "target_parameters"):  # PEFT keeps lists of names as sets
            if isinstance(getattr(self, name), list | tuple):
                setattr(self, name, set(getattr(self, name)))
        self._check_choices()

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        super().save_pretrained(save_directory, **kwargs)
        describe_loading(save_directory, "MSPLoRA", "msplora_core.adapter")

    def _check_choices(self) -> None:
        if not _is_number(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            raise ParameterError(
                "lora_dropout", expected="a number from 0 up to, not including, 1", found=self.lora_dropout
            )
        if self.bias not in ("none", "all", "lora_only"):
            raise ParameterError("bias", expected="none, all or lora_only", found=self.bias)
        if not any(self.init_lora_weights is known or self.init_lora_weights == known for known in INITIALISATIONS):
            raise ParameterError(
                "init_lora_weights",
                expected=", ".join(map(str, INITIALISATIONS)),
                found=self.init_lora_weights,
            )
        if isinstance(self.target_parameters, str):
            raise ParameterError("target_parameters", expected="a list of names", found=self.target_parameters)
        for name in ("lora_dropout", "use_dora"):
            if self.target_parameters and getattr(self, name):
                raise ParameterError(name, expected="none beside target_parameters", found=getattr(self, name))
        tokens = self.trainable_token_indices
        if tokens is not None and not all(map(_is_indices, tokens.values() if isinstance(tokens, dict) else [tokens])):
            raise ParameterError(
                "trainable_token_indices", expected="a list of token indices, or such lists by embedding", found=tokens
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ParameterError("layers_pattern", expected="layers_to_transform beside it", found="none")
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise ParameterError(
                "layers_to_transform",
                expected="target_modules as a list of names",
                found=f"target_modules={self.target_modules!r}",
                hint="put the layers into the regular expression",
            )


def _checked_alpha(name: str, alpha: Any) -> float | tuple[float, float, float]:
    if _is_number(alpha):
        return float(alpha) if isinstance(alpha, float) else int(alpha)
    if isinstance(alpha, list | tuple) and len(alpha) == len(SCALES) and all(map(_is_number, alpha)):
        return tuple(alpha)
    raise ParameterError(name, expected="a finite number, or three (global, mid, layer)", found=alpha)


def _checked_groups(groups: Any) -> int | tuple[int, ...] | None:
    if groups is None or (isinstance(groups, int) and not isinstance(groups, bool) and groups >= 1):
        return groups
    if isinstance(groups, list | tuple) and all(isinstance(start, int) and start >= 1 for start in groups):
        return tuple(groups)
    expected = "a number of at least 1, or the first layer of each group after the first"
    raise ParameterError("groups", expected=expected, found=groups)


def _is_indices(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(index) is int and index >= 0 for index in value) and bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
