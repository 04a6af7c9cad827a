"""Intruder dimensions against full SVDs of dense matrices, and by their properties."""

from __future__ import annotations

import numpy as np
import pytest

from msplora_analysis.kernels.intruders import leading_directions, left_basis
from msplora_core.errors import ParameterError
from msplora_core.linalg.updates import LowRankUpdate


def weight(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Few large singular values over many that lie close, as trained weights have them."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(shape) / np.sqrt(shape[1])
    return noise + np.outer(random.standard_normal(shape[0]), random.standard_normal(shape[1])) / shape[0]


def update(shape: tuple[int, int], rank: int = 4, scaling: float = 2.0) -> LowRankUpdate:
    random = np.random.default_rng(1)
    return LowRankUpdate(
        random.standard_normal((shape[0], rank)) / shape[0] ** 0.5,
        random.standard_normal((rank, shape[1])) / shape[1] ** 0.5,
        scaling,
    )


def dense(W: np.ndarray, change: LowRankUpdate, k: int) -> tuple[np.ndarray, np.ndarray]:
    """As PEFT has it: two full SVDs, and the largest cosine of each leading vector."""
    base = np.linalg.svd(W.astype(np.float64), full_matrices=False)[0]
    U, sigma, _ = np.linalg.svd(W + change.scaling * change.B @ change.A, full_matrices=False)
    return sigma[:k], abs(U[:, :k].T @ base).max(axis=1)


@pytest.mark.parametrize("shape", [(240, 240), (210, 320), (320, 210), (30, 40), (40, 30)])
def test_full_decompositions_say_the_same(shape: tuple[int, int]) -> None:
    W, change = weight(shape), update(shape)
    sigma, cosine = dense(W, change, 10)
    found = leading_directions(W, left_basis(W), change, 10)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-9)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-6)
    np.testing.assert_allclose(found.base_sigma, np.linalg.svd(W, compute_uv=False)[:10], rtol=1e-9)


@pytest.mark.parametrize("shape", [(240, 250), (320, 210), (40, 30)])
def test_rows_rescaled_as_by_dora(shape: tuple[int, int]) -> None:
    W, change = weight(shape), update(shape)
    whole = W + change.scaling * change.B @ change.A
    magnitudes = np.random.default_rng(2).uniform(0.1, 3.0, shape[0])
    rescaled = whole * (magnitudes / np.linalg.norm(whole, axis=1))[:, None]
    sigma, cosine = dense(W, LowRankUpdate(rescaled - W, np.eye(shape[1])), 10)
    found = leading_directions(W, left_basis(W), change, 10, magnitudes)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-9)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-6)
    assert abs(found.cosine - leading_directions(W, left_basis(W), change, 10).cosine).max() > 0.05
    with pytest.raises(ParameterError, match="magnitudes: expected shape"):
        leading_directions(W, left_basis(W), change, 10, magnitudes[1:])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_narrow_weights(dtype: type) -> None:
    W, change = weight((240, 260)).astype(dtype), update((240, 260))
    sigma, cosine = dense(W.astype(np.float64), change, 10)
    found = leading_directions(W, left_basis(W), change, 10)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-12)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-9)


def test_a_zero_update_has_no_intruder() -> None:
    W = weight((240, 240))
    found = leading_directions(W, left_basis(W), update((240, 240), scaling=0.0), 10)
    np.testing.assert_allclose(found.cosine, 1, atol=1e-9)
    np.testing.assert_allclose(found.sigma, found.base_sigma, rtol=1e-12)


def test_a_large_foreign_direction_comes_first() -> None:
    W = weight((240, 240))
    found = leading_directions(W, left_basis(W), update((240, 240), rank=1, scaling=100.0), 3)
    assert found.cosine[0] < 0.3
    assert found.sigma[0] == pytest.approx(100, rel=0.2)
    assert (found.cosine[1:] > 0.5).all()


def test_an_update_along_the_base_is_no_intruder() -> None:
    W = weight((240, 240))
    U, sigma, Vt = np.linalg.svd(W)
    along = LowRankUpdate(U[:, 7:8], Vt[7:8], 50.0)
    found = leading_directions(W, left_basis(W), along, 2)
    np.testing.assert_allclose(found.cosine, 1, atol=1e-8)
    assert found.sigma[0] == pytest.approx(50 + sigma[7])


def test_rotations_change_nothing() -> None:
    W, change = weight((210, 210)), update((210, 210))
    Q, P = (np.linalg.qr(np.random.default_rng(seed).standard_normal((210, 210))).Q for seed in (2, 3))
    turned = LowRankUpdate(Q @ change.B, change.A @ P, change.scaling)
    before = leading_directions(W, left_basis(W), change, 5)
    after = leading_directions(Q @ W @ P, left_basis(Q @ W @ P), turned, 5)
    np.testing.assert_allclose(after.cosine, before.cosine, atol=1e-8)


def test_peft_counts_the_same() -> None:
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    intruders = pytest.importorskip("peft.tuners.lora.intruders")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(48, 64), torch.nn.Linear(64, 48), torch.nn.Linear(48, 48))
    config = peft.LoraConfig(r=4, lora_alpha=32, target_modules=["0", "1", "2"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    told: list[str] = []
    layers = [layer for layer in adapted.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]
    ours = []
    for layer in layers:
        W = layer.get_base_layer().weight.detach().numpy().copy()
        B, A = (part["default"].weight.detach().numpy().copy() for part in (layer.lora_B, layer.lora_A))
        found = leading_directions(W, left_basis(W), LowRankUpdate(B, A, layer.scaling["default"]), 10)
        ours.append(int((found.cosine < 0.5).sum()))
    intruders.reduce_intruder_dimension(adapted, top_k=10, threshold_epsilon=0.5, logging_sink=told.append)
    theirs = [int(line.rpartition(" ")[2]) if "Intruders:" in line else 0 for line in told if "ntruders" in line]
    assert ours == theirs
    assert sum(ours) > 0


@pytest.mark.parametrize(
    ("shape", "k", "message"), [((4, 5), 2, "update: expected shape"), ((4, 4), 0, "k: expected at least 1, found 0")]
)
def test_what_does_not_fit_is_named(shape: tuple[int, int], k: int, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        leading_directions(np.eye(4), left_basis(np.eye(4)), update(shape), k)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ParameterError, match="W: expected a matrix of finite numbers"):
        left_basis(np.full((2, 2), np.nan))
