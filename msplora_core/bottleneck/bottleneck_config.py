"""The configuration of bottleneck adapters."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

from peft import PeftConfig

from msplora_core.adapter.model_card import describe_loading
from msplora_core.adapter.registration import method_type
from msplora_core.errors import ParameterError

NAME = "bottleneck"


@dataclass
class BottleneckConfig(PeftConfig):
    """Configuration of bottleneck adapters (Houlsby et al. 2019), for `peft.get_peft_model`.

    Each adapter transforms the output h of a frozen module, the output projection of the attention or of the
    feed-forward network, before the residual sum and LayerNorm (arXiv 1902.00751, Section 2.1):

        h + W_up · GELU(W_down · h + b_down) + b_up,    W_down (m × d), W_up (d × m)

    This is 2md + d + m parameters an adapter. The update depends on the input, so it cannot be merged into the weights
    and has no spectrum. As in the authors' code, GELU is its tanh approximation, and the LayerNorms are trained (here
    only those of layers with an adapter). Unlike there, the adapter comes before the dropout that follows the output
    projection, not after it.

    AdapterDrop (Rücklé et al. 2021, arXiv 2010.11918) has no adapters in the lowest layers:
    `layers_to_transform=range(5, 12)`.

    Args:
        bottleneck_size: m, 64 in the authors' code; 8, 64 or 256 in the paper.
        init_std: initial standard deviation of W_down and W_up, from a normal distribution truncated at twice it. The
            biases start at zero, so that an adapter starts near the identity.
        train_layer_norms: train and save the LayerNorms (or RMSNorms) of each layer that has an adapter.
        target_modules: names or regular expression of the modules that an adapter follows. There are defaults for
            BERT, RoBERTa and similar models, DistilBERT, and Llama and similar models.
        exclude_modules: names or regular expression of modules to exclude.
        layers_to_transform: layers with adapters, by index; by default all.
        layers_pattern: name of the list of layers that `layers_to_transform` indexes.
        modules_to_save: further modules to train in full and to save with the adapter.

    Raises:
        ParameterError: for an invalid value.

    Example:
        >>> BottleneckConfig(bottleneck_size=8).peft_type.value
        'BOTTLENECK'
        >>> BottleneckConfig(bottleneck_size=0)
        Traceback (most recent call last):
        msplora_core.errors.ParameterError: bottleneck_size: expected a whole number of at least 1, found 0
    """

    bottleneck_size: int = 64
    init_std: float = 1e-2
    train_layer_norms: bool = True
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = method_type(NAME)
        if not isinstance(self.bottleneck_size, int) or self.bottleneck_size < 1:
            raise ParameterError("bottleneck_size", expected="a whole number of at least 1", found=self.bottleneck_size)
        if not self.init_std > 0:
            raise ParameterError("init_std", expected="a number above 0", found=self.init_std)
        for name in ("target_modules", "exclude_modules"):  # PEFT keeps lists of names as sets
            if isinstance(getattr(self, name), list | tuple):
                setattr(self, name, set(getattr(self, name)))
        if isinstance(self.layers_to_transform, range | tuple):
            self.layers_to_transform = list(self.layers_to_transform)

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        super().save_pretrained(save_directory, **kwargs)
        describe_loading(save_directory, "bottleneck adapters", "msplora_core.bottleneck")
