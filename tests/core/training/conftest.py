"""A model small enough to train in a second, and a few real-looking examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from msplora_core.training.data.examples import Examples
from msplora_core.training.data.grammar import generate
from msplora_core.training.data.task_data import TaskData
from msplora_core.training.models import packaged_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of three layers without dropout, with MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(packaged_model()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of four layers with grouped-query attention, whose tokenizer has no padding token."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30522,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=102,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def few() -> TaskData:
    """Thirty acceptable and unacceptable sentences to train on, ten to evaluate on."""
    return TaskData(generate("acceptability", "train", 30), generate("acceptability", "dev", 10))


@pytest.fixture(scope="session")
def cola_files(tmp_path_factory: pytest.TempPathFactory, few: TaskData) -> Path:
    """The same examples as files of the official CoLA layout."""
    folder = tmp_path_factory.mktemp("glue")
    write_cola(folder / "CoLA" / "train.tsv", few.train)
    write_cola(folder / "CoLA" / "dev.tsv", few.dev)
    return folder


def write_cola(path: Path, examples: Examples) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = [f"gj04\t{label}\t\t{text}\n" for (text,), label in zip(examples.texts, examples.labels, strict=True)]
    path.write_text("".join(rows))
