"""Checks of an adapter's values, scaling and configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.checkup.finding import Finding
from msplora_core.components import Component
from msplora_core.errors import FileError
from msplora_core.formats.adapter_file import Adapter
from msplora_core.formats.peft.configuration import Patterns, PeftConfig
from msplora_core.formats.weight_files import CONFIG
from msplora_core.linalg.updates import LowRankUpdate

LARGEST_SCALING, LEAST_SCALING = 16.0, 1 / 256
"""α/r is usually 1 or 2; α = 1 with r = 128 is a default of some trainers."""
_LEAST_FLOAT16 = 6.1e-5
"""The smallest normal number of float16. Smaller ones lose digits or become zero."""
_MOST_LOST = 0.5


def sound_components(adapter: Adapter, found: list[Finding]) -> Iterator[Component]:
    """Yield the components of an adapter that can be measured; append findings about values to `found`."""
    for stored, key in zip(adapter.updates, adapter.keys, strict=True):
        if key.scale == "total":
            continue
        try:
            update = stored.load()
        except FileError as error:
            if not (finding := not_finite(error, str(key))):
                raise
            found.append(finding)
            continue
        component = Component(key, update)
        found += rounded_away(component, stored.dtype)
        yield component


def not_finite(error: Exception, module: str = "") -> Finding | None:
    """Return what an error of reading says about values, None for other errors.

    Args:
        error: of reading a tensor.
        module: the component; the tensor's name where not given.
    """
    if not isinstance(error, FileError) or error.expected != "finite numbers":
        return None
    says, advice = f"{error.key} holds NaN or infinity", "do not use it; take an earlier checkpoint"
    return Finding("broken", "not finite", module or str(error.key), float("nan"), says, advice)


def rounded_away(component: Component, dtype: str) -> list[Finding]:
    """Return what was lost of factors that were saved in half precision, of other types nothing."""
    update = component.update
    lost = _lost(update.B, update.A) if isinstance(update, LowRankUpdate) and dtype == "float16" else 0.0
    if lost <= _MOST_LOST:
        return []
    says = f"{lost:.0%} of a factor's numbers are too small for {dtype} or were rounded to zero"
    advice = "save it in float32 or bfloat16"
    return [Finding("doubtful", "rounded away", str(component.key), lost, says, advice)]


def _lost(*factors: NDArray[Any]) -> float:
    """The highest share of numbers below the smallest normal one, over factors that are not entirely zero."""
    shares = [float(np.mean(np.abs(factor) < _LEAST_FLOAT16)) for factor in factors if factor.any()]
    return max(shares, default=0.0)


def scaling_findings(adapter: Adapter, config: PeftConfig | None) -> Iterator[Finding]:
    """Yield findings on unusual values of α/r."""
    rslora = config is not None and config.flag("use_rslora")
    for stored, key in zip(adapter.updates, adapter.keys, strict=True):
        size = abs(stored.scaling)
        if key.scale == "total" or LEAST_SCALING <= size <= LARGEST_SCALING:
            continue
        advice = "check alpha"
        if rslora and size > LARGEST_SCALING:
            plain = stored.scaling / np.sqrt(stored.rank)
            advice = f"use_rslora is set: check whether alpha includes √r already; alpha/r is {plain:.3g}"
        says = f"scaling {stored.scaling:.3g}, usually 1 or 2"
        yield Finding("doubtful", "unusual scaling", str(key), float(stored.scaling), says, advice)


def pattern_findings(adapter: Adapter, config: PeftConfig) -> Iterator[Finding]:
    """Yield findings on patterns of adapter_config.json that match no module."""
    paths = [stored.path for stored in adapter.updates]
    masks = config.peft_type == "ADALORA"  # its rank_pattern lists the remaining triplets
    for name in ("alpha_pattern",) if masks else ("rank_pattern", "alpha_pattern"):
        values = config.content.get(name)
        if not isinstance(values, dict):  # what reading has not refused is unused
            continue
        for pattern in Patterns(config, name, values).unmatched(paths):  # values of MSPLoRA are one for each scale
            says, advice = f"no module matches it in {CONFIG}", "correct it; the default applies instead"
            yield Finding("doubtful", "pattern without module", f"{name} {pattern!r}", float("nan"), says, advice)


def layer_findings(adapter: Adapter) -> Iterator[Finding]:
    """Yield findings on missing layers: a few within the stack, or ones that other module types of the stack have.

    If many are missing, the layers of the model differ, which is no defect. Files that number their modules
    consecutively name no layers.
    """
    stacks, units = adapter.stacks(), defaultdict[str, set[int]](set)
    for stored, key in zip(adapter.updates, adapter.keys, strict=True):
        if key.scale == "layer" and not stored.path.rpartition(".")[2].isdecimal():
            units[key.module].add(key.unit)
    together = defaultdict[str, set[int]](set)
    for module, have in units.items():
        together[stacks[module].rpartition(" ")[0]] |= have
    for module, have in units.items():
        others = together[stacks[module].rpartition(" ")[0]]
        gaps = set(range(min(others), max(others) + 1)) - have
        if gaps and len(gaps) <= max(1, len(have) // 4) and len(have) > 2:
            missing = ", ".join(map(str, sorted(gaps)))
            says = f"no update at layer {missing}, but at {len(have)} others"
            advice = "check that no tensor was lost, unless the layer was left out on purpose"
            yield Finding("doubtful", "layer missing", f"layer/{module}", float(len(gaps)), says, advice)
