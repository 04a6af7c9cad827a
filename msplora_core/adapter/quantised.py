"""Quantised base weights: bitsandbytes and the other backends of PEFT."""

from __future__ import annotations

from typing import Any

from torch import nn

from msplora_core.errors import MissingDependencyError


def quantization_backend(base: nn.Module) -> Any:
    """Return PEFT's access to a quantised module's weight.

    Args:
        base: a module to be adapted.

    Returns:
        PEFT's backend, or None for a module that is not quantised.

    Raises:
        MissingDependencyError: for a quantised module under a PEFT that has no such backends (before 0.20).
    """
    try:
        from peft.utils import resolve_quantization_backend
    except ImportError:
        weight = getattr(base, "weight", None)
        if weight is None or weight.is_floating_point():
            return None
        raise MissingDependencyError("peft>=0.20", purpose="a quantised base model", extra="train") from None
    return resolve_quantization_backend(base)
