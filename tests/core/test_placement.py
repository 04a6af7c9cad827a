"""Stacks, layers and module types from dotted paths."""

from __future__ import annotations

from msplora_core.placement import place_modules, stack_shape


def placed(paths: list[str], lists: set[str] | None = None) -> dict[str, tuple[str, int | None]]:
    return {path: (place.module, place.layer) for path, place in place_modules(paths, lists).items()}


def test_names_are_as_short_as_tells_the_types_apart() -> None:
    block = "bert.encoder.layer.{}."
    types = ["attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense"]
    paths = [block.format(i) + kind for i in range(3) for kind in types]
    found = placed(paths)
    assert [found[block.format(2) + kind] for kind in types] == [
        ("query", 2), ("attention.output.dense", 2), ("intermediate.dense", 2), ("output.dense", 2),
    ]  # fmt: skip


def test_encoder_and_decoder_are_two_stacks_and_cross_attention_a_type_of_its_own() -> None:
    paths = [f"encoder.block.{i}.layer.0.SelfAttention.q" for i in range(2)]
    paths += [f"decoder.block.{i}.layer.{j}.{kind}.q" for i in range(2)
              for j, kind in enumerate(["SelfAttention", "EncDecAttention"])]  # fmt: skip
    found = placed(paths)
    assert found["encoder.block.1.layer.0.SelfAttention.q"] == ("encoder.q", 1)
    assert found["decoder.block.1.layer.1.EncDecAttention.q"] == ("decoder.EncDecAttention.q", 1)
    assert len({name for name, _ in found.values()}) == 3


def test_two_towers_are_told_apart_by_the_name_that_differs() -> None:
    paths = [f"{tower}_model.encoder.layers.{i}.self_attn.q_proj" for tower in ("text", "vision") for i in range(2)]
    assert set(placed(paths).values()) == {
        ("text_model.q_proj", 0), ("text_model.q_proj", 1), ("vision_model.q_proj", 0), ("vision_model.q_proj", 1),
    }  # fmt: skip


def test_the_module_tree_overrules_digits_in_names() -> None:
    paths = ["stage.7.blocks.0.fc", "stage.7.blocks.1.fc", "fc.1"]
    assert placed(paths, {"stage.7.blocks"}) == {
        "stage.7.blocks.0.fc": ("fc", 0), "stage.7.blocks.1.fc": ("fc", 1), "fc.1": ("fc.1", None),
    }  # fmt: skip


def test_a_shape_of_absurd_size_is_none() -> None:
    assert stack_shape(f"layers {'9' * 9}x8") == (999_999_999, 8)
    assert stack_shape(f"layers {'9' * 400}x8") is None


def test_modules_outside_any_list_have_no_layer() -> None:
    assert placed(["pooler.dense", "classifier"]) == {
        "pooler.dense": ("dense", None),
        "classifier": ("classifier", None),
    }
