"""Measures in a notebook or a script: a table of singular values in, numbers out.

python examples/measures.py runs/mine
"""

from __future__ import annotations

import sys

from msplora_analysis import effective_rank_ratio, entropy_rank, load_spectra, pairwise_spectral_kl


def main(path: str) -> None:
    table = load_spectra(path)
    last = table[(table["epoch"] == table["epoch"].max()) & (table["scale"] == "layer")]
    # Singular values averaged over modules, one row a layer.
    spectra = last.groupby(["unit", "k"])["sigma"].mean().unstack().to_numpy()
    print("M_eff-1 by layer (higher = more concentrated):", effective_rank_ratio(spectra, 1).round(3))
    print("entropy rank by layer (higher = broader):", entropy_rank(spectra).round(2))
    print("KL between layers, nats:", pairwise_spectral_kl(spectra).round(4), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
