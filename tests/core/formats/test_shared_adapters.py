"""Adapters that others trained, against the figures known of them."""

from pathlib import Path

import numpy as np
import pytest

from msplora_core.components import component_spectra
from msplora_core.formats import read_adapter

ADAPTERS = Path(__file__).parents[4] / "shared" / "adapters"
pytestmark = pytest.mark.skipif(not ADAPTERS.is_dir(), reason="the folder ../shared/adapters is missing")


def layer_spectra(path):
    found = component_spectra(read_adapter(path).components())
    return np.array([sigma for key, sigma in found.items() if key.startswith("layer")])


def entropy_rank(sigma):
    share = sigma / sigma.sum(axis=-1, keepdims=True)
    return np.exp(-(share * np.log(share)).sum(axis=-1)).mean()


def test_loralib_roberta():
    pytest.importorskip("torch")
    adapter = read_adapter(ADAPTERS / "microsoft-roberta-base-mnli")
    assert [(line.module, line.units, line.ranks) for line in adapter.modules()] == [
        (module, tuple(range(12)), (8,)) for module in ("query", "value")
    ]
    sigma = layer_spectra(ADAPTERS / "microsoft-roberta-base-mnli")
    assert sigma.shape == (24, 8)
    assert (sigma[:, 0] / sigma.sum(axis=1)).mean() == pytest.approx(0.3300, abs=5e-5)
    assert entropy_rank(sigma) == pytest.approx(6.089, abs=5e-4)
    assert ((sigma**2).sum(axis=1) / sigma[:, 0] ** 2).mean() == pytest.approx(2.346, abs=5e-4)


@pytest.mark.parametrize(("rank", "entropy"), [(2, 1.658), (4, 2.690), (6, 3.566), (8, 4.475), (16, 7.702)])
def test_sam_at_five_ranks(rank, entropy):
    sigma = layer_spectra(ADAPTERS / "mathieunlp-sam-lora" / f"lora_rank{rank}.safetensors")
    assert sigma.shape == (24, rank)
    assert entropy_rank(sigma) == pytest.approx(entropy, abs=5e-4)


@pytest.mark.parametrize(("name", "rank"), [("analog_svd_rank4", 4), ("lora_disney", 1)])
def test_stable_diffusion(name, rank):
    adapter = read_adapter(ADAPTERS / "cloneofsimo-sd-lora" / f"{name}.safetensors")
    assert adapter.method == f"lora-r{rank}"
    assert len(adapter.updates) == 192
    assert all(len(line.shapes) == 1 for line in adapter.modules())
    for component in adapter.components():
        assert component.update.rank == rank
