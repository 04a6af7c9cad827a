"""Pairwise divergence of many spectra, compared with the matrix product that it needs at least."""

from __future__ import annotations

from benchmarks.target import Line, Target
from benchmarks.timing import Bench

_SPECTRA, _VALUES = 2000, 64


def pairwise(bench: Bench) -> list[Line]:
    """2,000 spectra of 64."""
    import numpy as np

    from msplora_analysis import pairwise_spectral_kl

    random = np.random.default_rng(0)
    spectra = -np.sort(-random.random((_SPECTRA, _VALUES)), axis=1)
    right = np.ascontiguousarray(spectra.T)

    def product_and_pass() -> None:
        result = spectra @ right
        np.maximum(result, 0.0, out=result)

    found = bench.medians({"ours": lambda: pairwise_spectral_kl(spectra), "floor": product_and_pass}, rounds=15)
    return [
        Line(
            f"pairwise KL of {_SPECTRA:,} spectra of {_VALUES}",
            f"one {_SPECTRA:,} × {_VALUES} × {_SPECTRA:,} product and one pass over it",
            found["ours"],
            found["floor"],
            Target("at most", 3),
        )
    ]
