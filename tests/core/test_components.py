"""Components and their spectra."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.testing import assert_allclose

from msplora_core.components import Component, ComponentKey, component_spectra
from msplora_core.errors import ParameterError
from msplora_core.linalg.updates import LowRankUpdate, joined


@pytest.mark.parametrize("text", ["layer/query", "deep/query/1", "layer//1", "layer/query/-1", "layer/query/1/2", ""])
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
