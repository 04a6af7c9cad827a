"""Which models can learn which tasks: refused in one line before anything is trained, or said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BartConfig, BertConfig, GPT2Config, LlamaConfig, T5Config, ViTConfig

from msplora_core.errors import ParameterError
from msplora_core.training import RunConfig, TaskData, train_run
from msplora_core.training.checking import check_inputs
from msplora_core.training.models import packaged_model
from msplora_core.training.run_warning import RunWarning

CLASSES, CAUSAL = "a model of text, for classes or scores", "a causal language model, for "
TOKENIZER = "a model with a tokenizer, found {}, which has none; its files stand beside the weights"
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"instruction": f"Say {n}.", "output": f"{n}"} for n in range(4)]))
    return str(path)


@pytest.mark.parametrize(
    ("description", "task", "message"),
    [
        (T5Config(), "classes", f"{CLASSES}, found {{}}, an encoder-decoder of type t5; an encoder, or a causal"),
        (T5Config(), "instructions", f"{CAUSAL}.*, found {{}}, an encoder-decoder of type t5; smollm2 is one"),
        (BartConfig(), "classes", f"{CLASSES}, found {{}}, an encoder-decoder of type bart"),
        (BartConfig(), "instructions", f"{CAUSAL}.*, found {{}}, an encoder-decoder of type bart"),
        (ViTConfig(), "classes", f"{CLASSES}, found {{}}, a model of type vit"),
        (ViTConfig(), "instructions", f"{CAUSAL}.*, found {{}}, a model of type vit"),
        (BertConfig(**SMALL), "instructions", f"{CAUSAL}.*, found {{}}, a model of type bert; smollm2 is one"),
        (BertConfig(**SMALL), "classes", TOKENIZER),  # for which transformers makes up one of five tokens
        (LlamaConfig(**SMALL), "instructions", TOKENIZER),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    tmp_path: Path, rows: str, description: BertConfig, task: str, message: str
) -> None:
    description.save_pretrained(tmp_path / "model")
    config = RunConfig(task=rows if task == "instructions" else "acceptability", model=str(tmp_path / "model"))
    with pytest.raises(ParameterError, match=message.format(tmp_path / "model")):
        check_inputs([config])


def test_a_tokenizer_that_cannot_pad(tmp_path: Path) -> None:
    LlamaConfig(**SMALL).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        ParameterError, match=r"a model with a padding token or one that ends texts, found .*; set pad_"
    ):
        check_inputs([RunConfig(task="acceptability", model=str(tmp_path))])


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("tokenizer.json", '{"version": "1.', "tokenizer.json is not JSON: Unterminated string starting at: line 1"),
        ("tokenizer.json", "{}", "transformers says: KeyError: 'added_tokens'"),
        ("tokenizer_config.json", "", "tokenizer_config.json is not JSON: Expecting value: line 1"),
    ],
)
def test_a_damaged_tokenizer_is_named(tmp_path: Path, name: str, content: str, cause: str) -> None:
    BertConfig(**SMALL).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(packaged_model()).save_pretrained(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ParameterError) as caught:
        check_inputs([RunConfig(task="acceptability", model=str(tmp_path))])
    whole = f"model: expected a model whose tokenizer can be loaded, found {tmp_path}; {cause}"
    assert str(caught.value).startswith(whole)


def test_a_causal_model_learns_classes_with_a_new_head_which_is_said(
    tiny_decoder: Path, tmp_path: Path, few: TaskData
) -> None:
    config = RunConfig(task="acceptability", model=str(tiny_decoder), out=tmp_path, epochs=1)
    with pytest.warns(RunWarning, match="acceptability: tiny-llama is a causal language model: it gets a new head"):
        run = train_run(config, data=few)
    assert run.read_record().finished


def test_the_linear_modules_of_gpt2_are_found(tmp_path: Path) -> None:
    GPT2Config(n_embd=16, n_layer=2, n_head=2).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(packaged_model()).save_pretrained(tmp_path)
    check_inputs(
        [RunConfig(task="acceptability", method=method, model=str(tmp_path)) for method in ("lora", "msplora")]
    )
