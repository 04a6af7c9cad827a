"""Which components serve which module."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import RobertaConfig, RobertaModel, T5Config, T5Model

from msplora_core.adapter import MSPLoraConfig, read_components
from msplora_core.adapter.sites import layer_lists
from msplora_core.errors import ParameterError
from msplora_core.pyramid import lora_parameters


class Block(nn.Module):
    def __init__(self, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, inner), nn.Linear(inner, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Stack(nn.Module):
    """Blocks of given inner sizes, then a head outside them."""

    def __init__(self, inner: list[int], container: type = nn.ModuleList) -> None:
        super().__init__()
        blocks = [Block(size) for size in inner]
        self.blocks = container(blocks) if container is nn.ModuleList else container(*blocks)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def keys(model: nn.Module, scale: str) -> list[str]:
    return [str(component.key) for component in read_components(model) if component.key.scale == scale]


def test_ranks_beyond_the_smaller_side_are_told_once() -> None:
    with pytest.warns(UserWarning, match="exceeds") as caught:
        get_peft_model(Stack([16, 16, 16]), MSPLoraConfig(ranks=(9, 4, 2), target_modules=["up", "down"]))
    (said,) = [str(one.message) for one in caught]
    assert said == "down (8x16), up (16x8): a rank exceeds the smaller side; the excess adds no direction"


def test_parameter_counts_of_the_paper_on_a_real_model() -> None:
    with torch.device("meta"):
        model = get_peft_model(RobertaModel(RobertaConfig()), MSPLoraConfig(target_modules=["query", "value"]))
    assert model.get_nb_trainable_parameters()[0] == 135_168
    assert 2 * lora_parameters(12, 8, 768, 768) == 294_912


def test_units_of_each_scale() -> None:
    model = get_peft_model(Stack([8] * 6), MSPLoraConfig(target_modules=["up", "down", "head"], groups=2))
    assert keys(model, "global") == ["global/up/0", "global/down/0"]
    assert keys(model, "mid") == ["mid/up/0", "mid/down/0", "mid/up/1", "mid/down/1"]
    assert keys(model, "layer") == [f"layer/{name}/{i}" for i in range(6) for name in ("up", "down")] + ["layer/head/0"]
    assert len(keys(model, "total")) == 13


def test_the_placement_is_written_into_the_configuration() -> None:
    config = MSPLoraConfig(target_modules=["up", "head"], ranks=(4, 2, 1), lora_alpha=(4, 8, 16), groups=2)
    get_peft_model(Stack([8] * 4), config)
    assert config.placement["blocks.3.up"] == {
        "module": "up", "layer": 3, "group": 1, "scaling": {"global": 1.0, "mid": 4.0, "layer": 16.0},
    }  # fmt: skip
    assert config.placement["head"] == {"module": "head", "layer": None, "group": None, "scaling": {"layer": 16.0}}
    assert list(config.placement) == [f"blocks.{i}.up" for i in range(4)] + ["head"]


def test_boundaries_count_the_layers_of_the_stack() -> None:
    config = MSPLoraConfig(target_modules=["up"], groups=(1, 4), layers_to_transform=[3, 4, 5], layers_pattern="blocks")
    get_peft_model(nn.ModuleDict({"body": Stack([8] * 6)}), config)
    assert {path: site["group"] for path, site in config.placement.items()} == {
        "body.blocks.3.up": 1, "body.blocks.4.up": 2, "body.blocks.5.up": 2,
    }  # fmt: skip


def test_a_number_of_groups_divides_the_layers_that_are_adapted() -> None:
    config = MSPLoraConfig(target_modules=["up"], groups=2, layers_to_transform=[2, 3, 4, 5])
    get_peft_model(nn.ModuleDict({"body": Stack([8] * 6)}), config)
    assert [site["group"] for site in config.placement.values()] == [0, 0, 1, 1]


@pytest.mark.parametrize("ranks", [(8, 0, 0), (0, 4, 0), (0, 0, 2), (8, 4, 0), (0, 4, 2), (8, 0, 2)])
def test_a_scale_of_rank_zero_is_left_out(ranks: tuple[int, int, int]) -> None:
    model = get_peft_model(Stack([8] * 6), MSPLoraConfig(target_modules=["up"], ranks=ranks, groups=3))
    units = {scale: len(keys(model, scale)) for scale in ("global", "mid", "layer")}
    assert units == {
        scale: n if rank else 0
        for (scale, n), rank in zip({"global": 1, "mid": 3, "layer": 6}.items(), ranks, strict=True)
    }
    model(torch.randn(2, 8)).sum().backward()


def test_shapes_that_differ_share_within_each_with_one_warning() -> None:
    with pytest.warns(UserWarning, match="down, up: shapes differ between layers, so only layers") as caught:
        model = get_peft_model(Stack([8, 8, 12, 12, 8, 8]), MSPLoraConfig(target_modules=["up", "down"], groups=3))
    assert sum("shapes differ" in str(warning.message) for warning in caught) == 1
    assert keys(model, "global") == [
        "global/up:8x8/0", "global/down:8x8/0", "global/up:12x8/0", "global/down:8x12/0",
    ]  # fmt: skip
    assert keys(model, "mid")[::2] == ["mid/up:8x8/0", "mid/up:12x8/1", "mid/up:8x8/2"]
    model(torch.randn(2, 8)).sum().backward()


def test_equal_shapes_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_peft_model(Stack([8] * 3), MSPLoraConfig(target_modules=["up", "down"]))


@pytest.mark.parametrize(("layers", "groups"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_without_a_number_there_are_three_groups_or_as_many_as_layers(layers: int, groups: int) -> None:
    model = get_peft_model(Stack([8] * layers), MSPLoraConfig(target_modules=["up"]))
    assert len(keys(model, "mid")) == groups
    model(torch.randn(2, 8)).sum().backward()


def test_fewer_layers_than_groups_is_refused_and_leaves_the_model_as_it_was() -> None:
    model = Stack([8, 8])
    with pytest.raises(ParameterError, match=r"groups: expected 1 to 2, the number of layers with up, found 3"):
        get_peft_model(model, MSPLoraConfig(target_modules=["up"], groups=3))
    assert not any("msplora" in type(module).__module__ for module in model.modules())


def test_boundaries_beyond_the_stack_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"groups: expected boundaries that ascend within 1 to 3.*with up, found"):
        get_peft_model(Stack([8] * 4), MSPLoraConfig(target_modules=["up"], groups=(2, 4)))


def test_targets_that_match_nothing_are_refused_with_the_names_that_exist() -> None:
    message = r"target_modules: expected names of this model: down, head, up, found \{'query'\}"
    with pytest.raises(ParameterError, match=message):
        get_peft_model(Stack([8] * 4), MSPLoraConfig(target_modules=["query"]))


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.MultiheadAttention(8, 2), "attention of type MultiheadAttention"),
        (nn.ConvTranspose2d(3, 3, 1), "attention of type ConvTranspose2d"),
        (nn.LayerNorm(8), "attention of type LayerNorm"),
        (nn.LSTM(8, 8), "attention of type LSTM"),
    ],
)
def test_what_cannot_be_adapted_is_refused_by_name(module: nn.Module, kind: str) -> None:
    model = Stack([8] * 3)
    model.attention = module
    message = f"target_modules: expected modules of type Linear, Embedding, Conv1d, .*found {kind}; exclude it"
    with pytest.raises(ParameterError, match=message):
        get_peft_model(model, MSPLoraConfig(target_modules=["up", "attention"]))


def test_the_output_projection_of_multihead_attention_is_refused_since_it_is_never_called() -> None:
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2)})
    with pytest.raises(ParameterError, match=r"attention\.out_proj of type NonDynamicallyQuantizableLinear"):
        get_peft_model(model, MSPLoraConfig(target_modules=["out_proj"]))


def test_a_module_outside_any_list_needs_a_rank_at_the_layer_scale() -> None:
    message = "ranks: expected a rank above 0 at the layer scale for head, .*found \\(8, 4, 0\\); set one in rank_p"
    with pytest.raises(ParameterError, match=message):
        get_peft_model(Stack([8] * 3), MSPLoraConfig(target_modules=["up", "head"], ranks=(8, 4, 0)))


def test_ranks_and_alpha_per_module_type() -> None:
    config = MSPLoraConfig(
        target_modules=["up", "down"],
        rank_pattern={"up": (2, 2, 2), r"blocks\.\d+\.down": (4, 0, 1)},
        alpha_pattern={"down": (1, 1, 2)},
    )
    model = get_peft_model(Stack([8] * 3), config)
    ranks = {str(c.key): c.update.rank for c in read_components(model) if c.key.unit == 0}
    assert (ranks["global/up/0"], ranks["mid/up/0"], ranks["layer/up/0"]) == (2, 2, 2)
    assert (ranks["global/down/0"], ranks["layer/down/0"]) == (4, 1)
    assert "mid/down/0" not in ranks
    assert config.placement["blocks.1.down"]["scaling"] == {"global": 0.25, "layer": 2.0}
    assert config.placement["blocks.1.up"]["scaling"] == {"global": 8.0, "mid": 8.0, "layer": 8.0}


def test_a_pattern_that_splits_a_module_type_is_refused() -> None:
    message = "rank_pattern: expected the same for all layers of up, since they share"
    with pytest.raises(ParameterError, match=message):
        get_peft_model(Stack([8] * 3), MSPLoraConfig(target_modules=["up"], rank_pattern={"blocks.0.up": (1, 1, 1)}))


def test_rank_stabilised_scaling() -> None:
    config = MSPLoraConfig(target_modules=["up"], ranks=(4, 1, 16), use_rslora=True, lora_alpha=16)
    get_peft_model(Stack([8] * 3), config)
    assert config.placement["blocks.0.up"]["scaling"] == {"global": 8.0, "mid": 16.0, "layer": 4.0}


def test_encoder_and_decoder_are_stacks_of_their_own() -> None:
    config = T5Config(vocab_size=20, d_model=16, d_kv=4, d_ff=16, num_layers=3, num_decoder_layers=4, num_heads=4)
    model = get_peft_model(T5Model(config), MSPLoraConfig(target_modules=["q"], groups=3))
    assert keys(model, "global") == [
        "global/encoder.q/0", "global/decoder.SelfAttention.q/0", "global/decoder.EncDecAttention.q/0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("container", "inner", "found"), [(nn.ModuleList, 8, True), (nn.Sequential, 8, True), (nn.Sequential, None, False)]
)
def test_lists_of_layers(container: type, inner: int | None, found: bool) -> None:
    model = Stack([inner] * 3, container) if inner else nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    assert layer_lists(model) == ({"blocks": 3} if found else {})


def test_all_linear_takes_every_linear_module_but_the_head(base_model: Callable) -> None:
    config = MSPLoraConfig(target_modules="all-linear", task_type="SEQ_CLS")
    get_peft_model(base_model(), config)
    names = {site["module"] for site in config.placement.values()}
    assert {"query", "key", "value", "intermediate.dense"} < names
    assert len(names) == 6


def test_targets_left_out_are_those_that_peft_chooses_for_lora(base_model: Callable) -> None:
    config = MSPLoraConfig()
    get_peft_model(base_model(), config)
    assert {site["module"] for site in config.placement.values()} == {"query", "value"}
