"""The sizes of a module to be adapted."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from peft.tuners.tuners_utils import _get_in_out_features
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from msplora_core.adapter.quantised import quantization_backend
from msplora_core.errors import ParameterError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ADAPTABLE = (nn.Linear, nn.Embedding, *CONVOLUTIONS, Conv1D)


@dataclass(frozen=True)
class Sizes:
    """Input and output of an adapted module. Modules of equal sizes can share components.

    Args:
        in_features: inputs, or input channels of a convolution, or tokens of an embedding.
        out_features: outputs, or output channels, or dimensions of an embedding.
        kernel: kernel size of a convolution; empty for other modules.
        groups: groups of a convolution. As in PEFT's LoRA, A reads all input channels, and each group of outputs
            has its own rows of A: r/groups of them.
        experts: number of matrices in a parameter that holds several experts. Each has r rows of A.
    """

    in_features: int
    out_features: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    experts: int = 1

    @property
    def most_directions(self) -> int:
        """The largest rank that an update can have."""
        return min(self.out_features, self.in_features * prod(self.kernel))

    def A_shape(self, rank: int) -> tuple[int, ...]:
        return rank * self.experts, self.in_features, *self.kernel

    def B_shape(self, rank: int) -> tuple[int, ...]:
        return self.out_features, rank * self.experts // self.groups, *(1 for _ in self.kernel)

    def __str__(self) -> str:
        """The shape of the weight.

        Example:
            >>> str(Sizes(8, 12)), str(Sizes(8, 12, kernel=(3, 3), groups=2))
            ('12x8', '12x4x3x3')
        """
        experts = [self.experts] if self.experts > 1 else []
        return "x".join(map(str, (*experts, self.out_features, self.in_features // self.groups, *self.kernel)))


def sizes_of(path: str, base: nn.Module) -> Sizes:
    """Return the sizes of a module to be adapted.

    Args:
        path: of the module, for the message.
        base: the module itself, without adapters.

    Raises:
        ParameterError: if modules of its type are not supported.
    """
    # `nn.MultiheadAttention` never calls its output projection, so an adapter on it would have no effect.
    supported = isinstance(base, ADAPTABLE) and not isinstance(base, NonDynamicallyQuantizableLinear)
    if not supported and quantization_backend(base) is None:
        raise ParameterError(
            "target_modules",
            expected=f"modules of type {', '.join(kind.__name__ for kind in ADAPTABLE)} (of transformers)",
            found=f"{path} of type {type(base).__name__}",
            hint="exclude it with exclude_modules",
        )
    if isinstance(base, CONVOLUTIONS):
        return Sizes(base.in_channels, base.out_channels, tuple(base.kernel_size), base.groups)
    in_features, out_features = _get_in_out_features(base)
    return Sizes(in_features, out_features)


def parameter_sizes(path: str, base: nn.Module, name: str) -> Sizes:
    """Return the sizes of a parameter to be adapted.

    As in PEFT's LoRA, a parameter of two dimensions is out × in, and one of three is a stack of such matrices, or of
    their transposes if the module has `is_transposed`.

    Args:
        path: of the parameter, for the message.
        base: its module, without adapters.
        name: its name in the module.

    Raises:
        ParameterError: for another number of dimensions.
    """
    shape = getattr(base, name).shape
    if len(shape) not in (2, 3):
        raise ParameterError(
            "target_parameters", expected="parameters of 2 or 3 dimensions", found=f"{path} of shape {list(shape)}"
        )
    if len(shape) == 3 and getattr(base, "is_transposed", False):
        experts, in_features, out_features = shape
    else:
        experts, out_features, in_features = (1, *shape)[-3:]
    return Sizes(in_features, out_features, experts=experts)
