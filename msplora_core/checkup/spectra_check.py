"""Checks of spectra: modules that were not trained, exploded, are copies, or leave ranks unused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from msplora_core.checkup.finding import Finding
from msplora_core.linalg.truncation import ranks_holding

OUTLIER = 20.0
"""Times the median norm of a module's kind. The highest value in the tested sound adapters is 10."""
LARGEST = 1e4
"""Singular value of an update, or its norm if only that is known. Those of weights are about 10 to 100."""
SPIKE = 100.0
"""Times the second singular value. The highest value in the tested sound adapters is 21."""
_ENERGY = 0.99
_LEAST_OF_A_KIND = 4
_DIGITS = 9

_Spectra = Mapping[str, NDArray[np.float64]]


def spectra_findings(spectra: _Spectra, *, pruned: bool = False) -> list[Finding]:
    """Check the spectra of an adapter's components.

    Args:
        spectra: singular values by component key, float64, descending; totals are ignored.
        pruned: whether the method sets components to zero on purpose (AdaLoRA).

    Returns:
        Findings in no order.

    Example:
        >>> spectra = {f"layer/q/{i}": np.array([1 + i, 1]) for i in range(4)} | {"layer/q/4": np.array([1e6, 5e5])}
        >>> [(one.severity, one.module) for one in spectra_findings(spectra)]
        [('broken', 'layer/q/4')]
    """
    own = {key: sigma for key, sigma in spectra.items() if not key.startswith("total/")}
    alive = {key: sigma for key, sigma in own.items() if sigma[0] > 0}
    zero = [key for key in own if key not in alive]
    return [*_zeros(own, zero, pruned), *_sizes(alive), *_shapes(alive), *_copies(alive)]


def norm_findings(norms: Mapping[str, float]) -> list[Finding]:
    """Check the norms of updates without spectra, such as those of full fine-tunes, whose dense SVDs take long.

    Args:
        norms: Frobenius norms by component key.

    Returns:
        Findings in no order.

    Example:
        >>> [(one.severity, one.module) for one in norm_findings({f"layer/q/{i}": i for i in range(3)})]
        [('doubtful', 'layer/q/0')]
    """
    own = {key: np.array([norm], dtype=np.float64) for key, norm in norms.items()}
    alive = {key: norm for key, norm in own.items() if norm[0] > 0}
    return [*_zeros(own, [key for key in own if key not in alive], False), *_sizes(alive)]


def _zeros(own: _Spectra, zero: list[str], pruned: bool) -> Iterator[Finding]:
    """Findings on updates that are zero: all, those of one scale, or some."""
    if pruned and len(zero) < len(own):
        for key in zero:
            yield Finding("note", "pruned to rank 0", key, 0.0, "no rank left", "nothing to do")
        return
    scales = {key.partition("/")[0] for key in own}
    dead = {scale for scale in scales if all(key in zero for key in own if key.startswith(f"{scale}/"))}
    if zero and dead == scales:
        what = "all ranks are pruned" if pruned else "every update is zero"
        yield Finding("broken", "never trained", "all modules", 0.0, what, "train it, or save it after training")
        return
    for scale in sorted(dead):
        yield Finding("broken", "a scale never trained", scale, 0.0, "every update of it is zero", "train this scale")
    for key in zero:
        if key.partition("/")[0] not in dead:
            advice = "exclude it from the targets, or check why it was not trained"
            yield Finding("doubtful", "never trained", key, 0.0, "the update is zero", advice)


def _sizes(alive: _Spectra) -> Iterator[Finding]:
    """Findings on norms far above the median of their kind, or above those of any model's weights."""
    norms = {key: float(np.linalg.norm(sigma)) for key, sigma in alive.items()}
    medians = _medians(norms)
    for key, norm in sorted(norms.items(), key=lambda one: -one[1]):
        if norm > OUTLIER * medians[key]:
            says = f"norm {norm:.3g}, {norm / medians[key]:.3g} times the median of its kind"
            yield Finding("broken", "exploded", key, norm, says, "do not use it; train again at a lower learning rate")
        elif alive[key][0] > LARGEST:
            says = f"norm {norm:.3g}, more than any model's weights"
            yield Finding("broken", "exploded", key, norm, says, "do not use it; check alpha and the learning rate")


def _medians(norms: Mapping[str, float]) -> dict[str, float]:
    """The median norm of each component's kind: its scale and module type, or its scale if these are too few."""
    by_type, by_scale = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for key, norm in norms.items():
        by_type[key.rpartition("/")[0]].append(norm)
        by_scale[key.partition("/")[0]].append(norm)

    def median(key: str) -> float:
        of_type, of_scale = by_type[key.rpartition("/")[0]], by_scale[key.partition("/")[0]]
        enough = next((kind for kind in (of_type, of_scale) if len(kind) >= _LEAST_OF_A_KIND), None)
        return float(np.median(enough)) if enough else np.inf

    cached = {kind: median(f"{kind}/0") for kind in by_type}
    return {key: cached[key.rpartition("/")[0]] for key in norms}


def _shapes(alive: _Spectra) -> Iterator[Finding]:
    """Findings on updates of effectively one direction, or with less than half of their ranks used."""
    for key, sigma in alive.items():
        if len(sigma) < 2:
            continue
        if sigma[0] > SPIKE * sigma[1]:
            ratio = sigma[0] / sigma[1] if sigma[1] else np.inf
            says = f"the first singular value is {ratio:.3g} times the second"
            yield Finding("doubtful", "rank 1 alone", key, float(ratio), says, "check its data and learning rate")
            continue
        used = int(ranks_holding((sigma / sigma[0]) ** 2, _ENERGY))
        if used < len(sigma) / 2:
            says = f"{used} of {len(sigma)} ranks hold {_ENERGY:.0%} of the energy"
            yield Finding("note", "unused ranks", key, float(used), says, "a lower rank suffices (convert, plan)")


def _copies(alive: _Spectra) -> Iterator[Finding]:
    """Findings on components whose singular values agree in nine digits: copied factors."""
    first: dict[tuple[str, ...], str] = {}
    for key, sigma in alive.items():
        numbers = tuple(f"{value:.{_DIGITS - 1}e}" for value in sigma)
        if numbers in first:
            says = f"the same singular values as {first[numbers]}"
            yield Finding("doubtful", "a copy", key, float(sigma[0]), says, "check how the file was made")
        first.setdefault(numbers, key)
