"""Ranks, groups and parameter counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msplora_core.errors import ParameterError
from msplora_core.pyramid import SCALES, Pyramid, geometric_ranks, layer_groups, lora_parameters

ranks = st.tuples(*[st.integers(0, 64)] * 3).filter(any)


@pytest.mark.parametrize(
    ("layers", "hidden", "rank", "lora", "msplora"),
    [(12, 768, 8, 294_912, 135_168), (32, 4096, 64, 33_554_432, 11_010_048)],
    ids=["RoBERTa-base", "LLaMA2-7B"],
)
def test_published_counts_for_query_and_value(layers: int, hidden: int, rank: int, lora: int, msplora: int) -> None:
    assert 2 * lora_parameters(layers, rank, hidden, hidden) == lora
    assert 2 * Pyramid(layers, geometric_ranks(rank)).parameters(hidden, hidden) == msplora


@given(layers=st.integers(1, 100), groups=st.integers(1, 100))
def test_even_groups_are_contiguous_and_differ_by_at_most_one(layers: int, groups: int) -> None:
    if groups > layers:
        with pytest.raises(ParameterError, match=f"groups: expected 1 to {layers}, the number of layers, found"):
            layer_groups(layers, groups)
        return
    group_of = layer_groups(layers, groups)
    sizes = [group_of.count(group) for group in range(groups)]
    assert list(group_of) == sorted(group_of)
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("layers", "groups"), [(1, 1), (2, 2), (3, 3), (12, 3)])
def test_without_a_number_there_are_three_groups_or_as_many_as_layers(layers: int, groups: int) -> None:
    assert layer_groups(layers) == layer_groups(layers, groups)
    assert Pyramid(layers).units("mid") == groups


@given(layers=st.integers(2, 40), data=st.data())
def test_boundaries_are_the_first_layers_of_the_later_groups(layers: int, data: st.DataObject) -> None:
    starts = sorted(data.draw(st.sets(st.integers(1, layers - 1), max_size=5)))
    group_of = layer_groups(layers, starts)
    assert [layer for layer in range(1, layers) if group_of[layer] != group_of[layer - 1]] == starts


@pytest.mark.parametrize("starts", [[0, 3], [3, 3], [4, 2], [6], [2, 7], [-1]])
def test_boundaries_out_of_order_or_range_are_refused(starts: list[int]) -> None:
    with pytest.raises(ParameterError, match="groups: expected boundaries that ascend within 1 to 5, for 6 layers"):
        layer_groups(6, starts)


@given(layers=st.integers(3, 40), ranks=ranks)
def test_every_layer_is_served_once_at_each_scale(layers: int, ranks: tuple[int, int, int]) -> None:
    pyramid = Pyramid(layers, ranks)
    for scale in (scale for scale in SCALES if pyramid.rank(scale)):
        served = [layer for unit in range(pyramid.units(scale)) for layer in pyramid.members(scale, unit)]
        assert sorted(served) == list(range(layers))
    left_out = [scale for scale in SCALES if not pyramid.rank(scale)]
    assert all(pyramid.units(scale) == 0 for scale in left_out)
    assert pyramid.rank("total") == sum(ranks)


def test_a_pyramid_without_mid_scale_needs_no_groups() -> None:
    assert Pyramid(layers=2, ranks=(8, 0, 2), groups=3).parameters(10, 10) == 20 * (8 + 2 * 2)


@pytest.mark.parametrize("bad", [(8, 4), (8, 4, -1), (0, 0, 0), (8, 4, 2.0), (True, 1, 1)])
def test_ranks_that_make_no_pyramid_are_refused(bad: tuple) -> None:
    with pytest.raises(ParameterError, match="ranks: expected three whole numbers"):
        Pyramid(12, bad)


def test_geometric_ranks_must_come_out_whole() -> None:
    with pytest.raises(ParameterError, match="first: expected a positive multiple of 4, for ratio 2, found 6"):
        geometric_ranks(6)
