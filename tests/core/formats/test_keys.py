"""Module types and layers from names, shapes and order."""

from pathlib import Path

import pytest

from msplora_core.formats.keys import component_keys
from msplora_core.formats.stored import StoredUpdate


def placed(*modules):
    """`module/unit` of each update; a module is a path, or a path with a shape."""
    named = [(module, (8, 8)) if isinstance(module, str) else module for module in modules]
    updates = [StoredUpdate(path, shape, 2, 1.0, "float32", pytest.fail) for path, shape in named]
    return [f"{key.module}/{key.unit}" for key in component_keys(Path("x"), updates)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.3.self_attn.q_proj", "q_proj/3"),
        ("bert.encoder.layer.11.attention.self.query", "query/11"),
        ("transformer.h.3.attn.c_attn", "c_attn/3"),
        ("image_encoder.blocks.5.attn.qkv", "qkv/5"),
        ("transformer.single_transformer_blocks.37.proj_mlp", "proj_mlp/37"),
        ("classifier", "classifier/0"),
    ],
)
def test_the_layer_stands_in_the_name(name, expected):
    assert placed(name) == [expected]


def test_encoder_and_decoder_are_two_stacks():
    paths = [f"{side}.block.{layer}.layer.0.SelfAttention.q" for side in ("encoder", "decoder") for layer in (0, 1)]
    assert placed(*paths) == ["encoder.q/0", "encoder.q/1", "decoder.q/0", "decoder.q/1"]


def test_grouped_queries_stay_apart():
    modules = [(f"layers.{layer}.{name}", shape) for layer in (0, 1) for name, shape in (("q", (8, 8)), ("k", (2, 8)))]
    assert placed(*modules) == ["q/0", "k/0", "q/1", "k/1"]


def test_one_name_in_two_shapes_is_two_types():
    modules = [("layers.0.fc", (8, 8)), ("layers.1.fc", (8, 8)), ("layers.2.fc", (4, 8))]
    assert placed(*modules) == ["fc:8x8/0", "fc:8x8/1", "fc:4x8/2"]


def test_blocks_of_a_unet_belong_to_the_type():
    paths = [
        f"unet.{block}.attentions.{attention}.transformer_blocks.{depth}.attn1.to_q"
        for block in ("down_blocks.2", "mid_block")
        for attention in (0, 1)
        for depth in (0, 1, 2)
    ]
    types = ["unet.down_blocks.2.attn1.to_q", "unet.mid_block.attn1.to_q"]
    assert placed(*paths) == [f"{module}/{unit}" for module in types for unit in range(6)]


def test_feed_forward_matrices_of_a_unet_are_told_apart():
    start = "unet.up_blocks.1.attentions.0.transformer_blocks.0.ff.net"
    assert placed(f"{start}.0.proj", f"{start}.2") == [
        "unet.up_blocks.1.ff.net.0.proj/0",
        "unet.up_blocks.1.ff.net.2/0",
    ]


def test_order_gives_the_layer_where_names_do_not():
    modules = [(f"unet.{number}", (8, 8) if number % 2 else (4, 8)) for number in (10, 9, 2, 1)]
    assert placed(*modules) == ["unet:4x8/1", "unet:8x8/1", "unet:4x8/0", "unet:8x8/0"]


def test_slashes_are_dots():
    assert placed("encoder/layers/3/q") == ["q/3"]
