"""Components and their spectra."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.testing import assert_allclose

from msplora_core.components import (
    Component,
    ComponentKey,
    component_spectra,
    factored_spectra,
    layer_inner_products,
)
from msplora_core.errors import ParameterError
from msplora_core.linalg.updates import LowRankUpdate, joined


@pytest.mark.parametrize(
    "text",
    ["layer/query", "deep/query/1", "layer//1", "layer/query/-1", "layer/query/1/2", "", "layer/query/2147483648"],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="component key: expected scale/module/unit, as in layer/query/11"):
        ComponentKey.parse(text)


def test_joined_factors_give_the_sum_of_the_updates() -> None:
    rng = np.random.default_rng(0)
    updates = [
        LowRankUpdate(rng.standard_normal((9, r)), rng.standard_normal((r, 7)), s) for r, s in [(4, 2.0), (2, 8.0)]
    ]
    whole = joined(updates)
    dense = sum(update.scaling * update.B @ update.A for update in updates)
    assert (whole.shape, whole.rank) == ((9, 7), 6)
    assert_allclose(whole.B @ whole.A, dense)
    assert_allclose(whole.singular_values(), np.linalg.svd(dense, compute_uv=False)[:6], atol=1e-12)


def test_spectra_keep_the_order_and_agree_with_each_component_alone() -> None:
    rng = np.random.default_rng(1)
    shapes = [(9, 2, 7), (5, 2, 7), (9, 2, 7), (9, 3, 7)]
    components = [
        Component(ComponentKey("layer", "q", unit), LowRankUpdate(rng.random((o, r)), rng.random((r, i)), unit + 1.0))
        for unit, (o, r, i) in enumerate(shapes)
    ]
    spectra = component_spectra(components)
    assert list(spectra) == [f"layer/q/{unit}" for unit in range(4)]
    for component in components:
        assert_allclose(spectra[str(component.key)], component.update.singular_values(), rtol=1e-12)


def test_factors_are_let_go_before_the_last_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msplora_core.components._Batches.MOST_ELEMENTS", 100)
    alive: set[int] = set()
    most = 0

    class Watched(np.ndarray):
        def __del__(self) -> None:
            alive.discard(id(self))

    def components() -> Iterator[Component]:
        nonlocal most
        for unit in range(20):
            B = np.ones((20, 1)).view(Watched)
            alive.add(id(B))
            most = max(most, len(alive))
            yield Component(ComponentKey("layer", "q", unit), LowRankUpdate(B, np.ones((1, 20))))
            del B

    assert len(component_spectra(components())) == 20
    assert most <= 5


def some_update(rng: np.random.Generator, out: int, rank: int, columns: int) -> LowRankUpdate:
    return LowRankUpdate(rng.standard_normal((out, rank)), rng.standard_normal((rank, columns)), 3.0)


def test_spectra_of_factors_are_those_of_the_matrices_without_scaling() -> None:
    rng = np.random.default_rng(2)
    shapes = [(9, 2, 7), (5, 2, 7), (9, 2, 7), (3, 6, 4)]
    components = [
        Component(ComponentKey("layer", "q", unit), some_update(rng, *shape)) for unit, shape in enumerate(shapes)
    ]
    found = factored_spectra(components)
    of_A, of_B = found.factor_A, found.factor_B
    assert list(found.spectra) == list(of_A) == list(of_B) == [str(component.key) for component in components]
    for key, sigma in component_spectra(components).items():
        assert_allclose(found.spectra[key], sigma, rtol=0)
    for component in components:
        for spectra, factor in ((of_A, component.update.A), (of_B, component.update.B)):
            dense = np.linalg.svd(factor, compute_uv=False)
            sigma = spectra[str(component.key)]
            assert len(sigma) == component.update.rank
            assert_allclose(sigma, np.pad(dense, (0, len(sigma) - len(dense))), atol=1e-12)


@pytest.mark.parametrize("scale", ["layer", "total"])
def test_inner_products_are_those_of_whole_layers_in_order(scale: str) -> None:
    rng = np.random.default_rng(3)
    updates = {unit: some_update(rng, 6, 2, 5) for unit in (10, 2, 7)}
    components = [Component(ComponentKey(scale, "q", unit), update) for unit, update in updates.items()]
    components.append(Component(ComponentKey("global", "q", 0), some_update(rng, 6, 2, 5)))
    if scale == "total":
        components.append(Component(ComponentKey("layer", "q", 2), some_update(rng, 6, 2, 5)))
    dense = [updates[unit].scaling * updates[unit].B @ updates[unit].A for unit in (2, 7, 10)]
    found = layer_inner_products(components)
    assert found.keys() == {"q"}
    assert_allclose(found["q"], [[(one * other).sum() for other in dense] for one in dense])


def test_layers_of_several_shapes_have_no_inner_products() -> None:
    rng = np.random.default_rng(4)
    components = [
        Component(ComponentKey("layer", "q", unit), some_update(rng, 6, 2, 5 + unit)) for unit in range(2)
    ] + [Component(ComponentKey("layer", "pooler", 0), some_update(rng, 6, 2, 5))]
    found = layer_inner_products(components)
    assert found.keys() == {"pooler"}
    assert found["pooler"].shape == (1, 1)
