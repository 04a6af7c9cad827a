"""Controls of a comparison: the same numbers for training on permuted labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import Any

from msplora_analysis.comparison.baseline import is_plain
from msplora_analysis.comparison.difference import Comparison
from msplora_core.methods import RANDOM_LABELS

CONTROLS = ("adjacent_kl_random_labels", "adjacent_kl_baseline_random_labels")
"""Columns of a comparison's pairs: of the method, of the baseline."""


def controlled(method: str) -> str:
    """Return the method whose control this is (trained on permuted labels); empty if it is not a control.

    Example:
        >>> controlled("lora-r8-random-labels (a)"), controlled("lora-r8")
        ('lora-r8 (a)', '')
    """
    name, space, variant = method.partition(" ")
    stem = name.removesuffix(f"-{RANDOM_LABELS}")
    return f"{stem}{space}{variant}" if stem != name else ""


def beside_controls(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Add the numbers of controls with random labels to the pairs of each comparison.

    Args:
        comparisons: of methods, and of their controls.

    Returns:
        The comparisons in the same order. If there is a control on the task and seed of a pair, `pairs` has the columns
        `CONTROLS` in nats, NaN where there is none.
    """
    known = dict[tuple[Any, ...], Any]()
    for one in comparisons:
        for pair in one.pairs.itertuples():
            known[_place(one, 0, controlled(one.method), pair)] = pair.adjacent_kl
            known[_place(one, 1, controlled(one.baseline), pair)] = pair.adjacent_kl_baseline
    return [_beside(one, known) for one in comparisons]


def _beside(one: Comparison, known: dict[tuple[Any, ...], Any]) -> Comparison:
    found = {
        name: [known.get(_place(one, side, method, pair), nan) for pair in one.pairs.itertuples()]
        for side, (name, method) in enumerate(zip(CONTROLS, (one.method, one.baseline), strict=True))
    }
    pairs = one.pairs.assign(**found)
    return replace(one, pairs=pairs) if pairs[list(CONTROLS)].notna().any(axis=None) else one


def _place(one: Comparison, side: int, method: str, pair: Any) -> tuple[Any, ...]:
    """The key that a number and its control have in common."""
    scale = "layer" if is_plain(method) else one.scale  # for plain LoRA, also the total
    return one.model, method, scale, one.stack, one.modules, one.lengths[side], pair.task, pair.seed


def control_means(one: Comparison) -> tuple[float, float, float]:
    """Return the means over pairs of the controls: KL of the method, of the baseline, and the difference.

    Args:
        one: a comparison from `beside_controls`.

    Returns:
        Three numbers in nats; NaN if unknown.
    """
    if not set(CONTROLS) <= set(one.pairs.columns):
        return nan, nan, nan
    ours, theirs = (one.pairs[name] for name in CONTROLS)
    return float(ours.mean()), float(theirs.mean()), float((ours - theirs).mean())
