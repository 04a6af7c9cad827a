"""The configuration: what it takes, refuses, and keeps through a file."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest
from peft import PeftConfig

from msplora_core.adapter import MSPLoraConfig
from msplora_core.errors import MSPLoraError, ParameterError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": (8, 4)}, r"ranks: expected three whole numbers \(global, mid, layer\).*found \(8, 4\)"),
        ({"ranks": (8, 4, -1)}, r"ranks: expected .* each at least 0 .*found \(8, 4, -1\)"),
        ({"ranks": (0, 0, 0)}, r"ranks: expected .* one of them positive, found \(0, 0, 0\)"),
        ({"ranks": (8, 4.5, 2)}, "ranks: expected three whole numbers"),
        ({"ranks": 8}, "ranks: expected three whole numbers .*found 8"),
        (
            {"groups": 0},
            "groups: expected a number of at least 1, or the first layer of each group after .*found 0",
        ),
        ({"groups": True}, "groups: expected a number"),
        ({"r": 16}, r"r: expected no r, but ranks=\(global, mid, layer\), for example ranks=\(8, 4, 2\), found 16"),
        ({"groups": (0, 4)}, "groups: expected .*found \\(0, 4\\)"),
        ({"lora_alpha": "16"}, "lora_alpha: expected a finite number, or three .*found 16"),
        ({"lora_alpha": (16, 16)}, "lora_alpha: expected"),
        ({"lora_alpha": float("nan")}, "lora_alpha: expected a finite number"),
        ({"lora_dropout": 1.0}, "lora_dropout: expected a number from 0 up to, not including, 1, found 1.0"),
        ({"bias": "some"}, "bias: expected none, all or lora_only, found some"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: expected True, False, gaussian, orthogonal, found pissa"),
        ({"rank_pattern": {"query": (8, 4)}}, r"rank_pattern\['query'\]: expected three whole numbers"),
        ({"alpha_pattern": {"query": "x"}}, r"alpha_pattern\['query'\]: expected a finite number"),
        ({"trainable_token_indices": [-1]}, "trainable_token_indices: expected a list of token indices, or such lists"),
        ({"trainable_token_indices": {"wte": []}}, "trainable_token_indices: expected"),
        ({"layers_pattern": "layer"}, "layers_pattern: expected layers_to_transform beside it"),
        ({"target_modules": ".*query", "layers_to_transform": [1]}, "layers_to_transform: expected target_modules as"),
    ],
)
def test_an_invalid_value_is_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        MSPLoraConfig(**changes)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MSPLoraError)
    assert "\n" not in str(caught.value)


def test_it_comes_back_from_a_file_as_it_was(tmp_path) -> None:
    config = MSPLoraConfig(
        ranks=(4, 0, 2),
        groups=(2, 4),
        lora_alpha=(8, 16.5, 32),
        target_modules=["query", "value"],
        rank_pattern={"value": (2, 2, 2)},
        alpha_pattern={"query": 3.0},
        use_rslora=True,
        task_type="SEQ_CLS",
    )
    config.save_pretrained(tmp_path)
    loaded = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, MSPLoraConfig)
    assert loaded.to_dict() == config.to_dict()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "MSPLORA"


@pytest.mark.parametrize("groups", [None, 3, (4, 8)])
def test_groups_come_back_from_a_file_with_or_without_a_number(groups: object, tmp_path) -> None:
    config = MSPLoraConfig() if groups is None else MSPLoraConfig(groups=groups)
    config.save_pretrained(tmp_path)
    assert PeftConfig.from_pretrained(tmp_path).groups == groups


def test_copies_and_replacements_work() -> None:
    config = MSPLoraConfig(ranks=(4, 2, 1), target_modules=["query"])
    assert copy.deepcopy(config) == config == pickle.loads(pickle.dumps(config))
    assert dataclasses.replace(config, ranks=(2, 2, 2)).ranks == (2, 2, 2)


def test_a_list_of_targets_becomes_a_set_as_in_lora() -> None:
    assert MSPLoraConfig(target_modules=["a", "b"]).target_modules == {"a", "b"}
    assert MSPLoraConfig(target_modules="all-linear").target_modules == "all-linear"
