"""Claims 2 to 2b: the distance between layers (Fig. 4), and the premises of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msplora_analysis.comparison.baseline import is_plain
from msplora_analysis.comparison.conditions import lora_command
from msplora_analysis.comparison.controls import control_means
from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.comparison.layers import LayerDivergence, adjacent_kl
from msplora_analysis.loading.settings import Settings
from msplora_analysis.statistics.claims import Claim, Draft, Step, both_questions, untestable
from msplora_analysis.statistics.layer_tests import mantel_test, thirds_test
from msplora_analysis.statistics.outcome import Outcome
from msplora_core.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

_LAYER_TESTS: dict[str, Callable[..., Outcome]] = {"2a": mantel_test, "2b": thirds_test}
_LEAST_LAYERS = 4
"""Three layers have only one pair that is not adjacent."""


def distance_drafts(comparisons: Iterable[Comparison], spread: DataFrame, settings: Settings) -> list[Draft]:
    """Test claim 2: the mean KL between adjacent layers is higher for a method than for plain LoRA of its rank.

    KLs of spectra of different length cannot be compared, so only comparisons at equal ranks are tested: of the layers'
    own components, and of the total of a layer. A method without such gets `cannot tell`, with what to train.

    Args:
        comparisons: of methods that share scales with baselines of plain LoRA.
        spread: KL between seeds (see `replicate_spread`).
        settings: of the runs, for the command that trains a baseline.

    Returns:
        A draft for each comparison at equal ranks, and for each (model, method, stack) without one.
    """
    drafts = []
    of_method = sorted(comparisons, key=_whose)
    for (model, method, stack), members in groupby(of_method, key=_whose):
        found = list(members)
        equal = [one for one in found if one.equal_ranks]
        if equal:
            drafts += [_distance(one, spread) for one in equal]
        else:
            drafts.append(untestable(Claim("2", method, model, stack), *_missing(found, settings)))
    return drafts


def layer_drafts(divergences: Iterable[LayerDivergence]) -> list[Draft]:
    """Test claims 2a and 2b on the layers of plain LoRA: `mantel_test` and `thirds_test` of their pairwise KL.

    Args:
        divergences: KL between the layers of each method.

    Returns:
        Two drafts for each (model, method, stack) of plain LoRA with at least four layers and a rank of at least 2.
    """
    drafts = []
    for one in divergences:
        if one.scale == "layer" and is_plain(one.method) and len(one.layers) >= _LEAST_LAYERS and one.ranks[-1] > 1:
            drafts += [_of_layers(number, one) for number in _LAYER_TESTS]
    return drafts


def _whose(one: Comparison) -> tuple[str, str, str]:
    return one.model, one.method, one.stack


def _distance(one: Comparison, spread: DataFrame) -> Draft:
    adjacent, pairs = one.adjacent, one.pairs
    claim = Claim("2", one.method, one.model, one.stack, baseline=one.baseline, scale=one.scale,
                  tasks=tuple(map(str, pairs["task"])))  # fmt: skip
    if len(one.layers) < 2:
        return untestable(claim, "a single layer has no adjacent one")
    if one.ranks[0] == (1,):
        reason = "spectra of one value have no shape: their KL is 0 by construction"
        return untestable(claim, reason, "train a rank of at least 2 on both sides")
    differences = pairs["difference"].to_numpy(dtype=np.float64)
    unusable = _unusable(pairs[["adjacent_kl", "adjacent_kl_baseline"]].to_numpy(dtype=np.float64))
    if unusable:
        return untestable(claim, *unusable)
    numbers = (
        f"KL of adjacent layers {adjacent['adjacent_kl']:.3g} against {adjacent['adjacent_kl_baseline']:.3g} nats, "
        f"{one.rule}, {(differences > 0).sum()} of {len(differences)} pairs positive"
    )
    of = "pair of runs" if len(pairs) == 1 else "pairs of runs"
    claim = Claim("2", one.method, one.model, one.stack, (), one.baseline, one.scale, numbers, (), claim.tasks)
    null = "; ".join(filter(None, (seeds_words(one, spread), _labels_words(one))))
    return both_questions(claim, {"": differences}, list(map(str, pairs["run"])), of, "nats", null)


def seeds_words(one: Comparison, spread: DataFrame) -> str:
    """Return the KL between two seeds of the same layer, for both methods of a comparison, in words."""
    found = [
        f"{kl:.3g} of {method}" for method, kl in zip((one.method, one.baseline), seeds_kl(one, spread), strict=True)
        if kl == kl
    ]  # fmt: skip
    return f"KL of one layer in two seeds {', '.join(found)}" if found else ""


def _labels_words(one: Comparison) -> str:
    """The KL of adjacent layers of both methods trained on random labels, in words."""
    both = zip((one.method, one.baseline), control_means(one)[:2], strict=True)
    found = [f"{kl:.3g} of {method}" for method, kl in both if kl == kl]
    return f"KL of adjacent layers with random labels {', '.join(found)}" if found else ""


def seeds_kl(one: Comparison, spread: DataFrame) -> tuple[float, float]:
    """Return the KL between seeds, for the method and the baseline of a comparison: means over tasks, or NaN."""
    rows = spread[(spread["model"] == one.model) & (spread["modules"] == "+".join(one.modules))]
    means = []
    for method in (one.method, one.baseline):
        own = rows[rows["method"] == method]
        scale = one.scale if (own["scale"] == one.scale).any() else "layer"  # for plain LoRA, also the total
        means.append(float(own.loc[own["scale"] == scale, "kl"].mean()))
    return means[0], means[1]


def _missing(comparisons: Sequence[Comparison], settings: Settings) -> tuple[str, str]:
    """Why a method has no comparison at equal ranks, and what to train."""
    first = min(comparisons, key=lambda one: one.scale)  # `layer` before `total`
    ours, theirs = first.ranks[0], ", ".join(map(_span, sorted({one.ranks[1] for one in comparisons})))
    if len(ours) > 1:
        return _cut(ours, first.lengths[0]), "compare methods of one rank"
    reason = f"no LoRA of rank {_span(ours)} on the same task and seed, only of {theirs}"
    if ours == (1,):
        return reason, "train a rank of at least 2 on both sides"
    command = lora_command(first.model, first.pairs, settings, rank=ours[0])
    return reason, f"train a baseline of equal rank with the same settings: {command}"


def _of_layers(number: str, one: LayerDivergence) -> Draft:
    claim = Claim(number, one.method, one.model, one.stack, scale=one.scale)
    if len(one.ranks) > 1:
        return untestable(claim, _cut(one.ranks, one.length), "train all layers at one rank")
    if np.isnan(one.kl).all():
        return untestable(claim, "every update is zero", "train at least one epoch")
    unusable = _unusable(one.kl)
    if unusable:
        return untestable(claim, *unusable)
    far = one.kl[~np.eye(len(one.kl), dtype=bool)].mean()
    numbers = f"KL of adjacent layers {adjacent_kl(one.kl).mean():.3g}, of all pairs {far:.3g} nats"
    claim = Claim(number, one.method, one.model, one.stack, (), "", "", numbers)
    return Draft(claim, "nats", ((Step("", _LAYER_TESTS[number](one.kl)),),))


def _unusable(kl: NDArray[np.float64]) -> tuple[str, ...]:
    """Why a mean of divergences has no value, and what to do; empty if it has one."""
    if np.isnan(kl).any():
        return "the update of a layer is zero", "train it, or leave its run out"
    if np.isinf(kl).any():
        return "a divergence is infinite: zero singular values", "set --floor"
    return ()


def _cut(ranks: Sequence[int], length: int) -> str:
    """Why no verdict rests on spectra of several ranks."""
    return f"spectra of ranks {_span(ranks)} are compared by their common leading {counted(length, 'singular value')}"


def _span(ranks: Sequence[int]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
