"""Estimated memory and operations of instruction tuning with a frozen base model, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

_LAYER_BYTES = 34  # activations of one layer per token and unit of width: arXiv 2205.05198, Eq. 1
_LOGIT_BYTES = 2 + 4 + 4  # in bfloat16, in float32 for the loss, and their gradient
_STATE_BYTES = 4 * 4  # a trained parameter in float32, its gradient and Adam's two moments


@dataclass(frozen=True)
class TrainingCost:
    """Memory and time of instruction tuning in bfloat16 with adapters in float32.

    Args:
        base_parameters: of the frozen model, in bfloat16.
        trained_parameters: of the adapter.
        layers: of the model.
        hidden: its width.
        vocabulary: size of its vocabulary.
        at_a_time: tokens in one forward pass: examples × their length.
        checkpointing: whether activations are recomputed in the backward pass.

    Example:
        >>> paper = TrainingCost(6_738_000_000, 11_010_048, 32, hidden=4096, vocabulary=32_000, at_a_time=4 * 256)
        >>> {part: round(size / 2**30, 2) for part, size in paper.memory().items()}
        {'base': 12.55, 'adapter': 0.16, 'activations': 4.25, 'logits': 0.31}
        >>> round(paper.operations(38_000_000) / 1e18, 2)
        1.02
    """

    base_parameters: int
    trained_parameters: int
    layers: int
    hidden: int
    vocabulary: int
    at_a_time: int
    checkpointing: bool = False

    def memory(self) -> dict[str, int]:
        """Return the bytes of each part.

        Assumes an attention that stores no tokens × tokens matrix. The framework itself takes one or two gigabytes
        more on a GPU.
        """
        layer = _LAYER_BYTES * self.at_a_time * self.hidden
        kept = 2 * self.at_a_time * self.hidden * self.layers + layer if self.checkpointing else layer * self.layers
        return {
            "base": 2 * self.base_parameters,
            "adapter": _STATE_BYTES * self.trained_parameters,
            "activations": kept,
            "logits": _LOGIT_BYTES * self.at_a_time * self.vocabulary,
        }

    def operations(self, tokens: int) -> int:
        """Return the floating-point operations of training on a number of tokens.

        Per parameter and token: two forward, two for the gradients of the inputs (the base model's weights need
        none), and two more with checkpointing. Attention and adapter, a few percent, are left out.
        """
        return (6 if self.checkpointing else 4) * self.base_parameters * tokens
