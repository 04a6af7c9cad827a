"""Batches, settings, metrics and generated tasks."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msplora_core.errors import ParameterError
from msplora_core.training import RunConfig
from msplora_core.training.data.batches import EncodedExamples, LengthBatches, Padding
from msplora_core.training.data.grammar import generate
from msplora_core.training.presets import paper_settings, preset_settings
from msplora_core.training.tasks import METRICS

LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=60)


@given(lengths=LENGTHS, size=st.integers(1, 20), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 5))
def test_every_example_once_an_epoch(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    batches = LengthBatches(lengths, size, seed)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert len(drawn) == len(batches) == math.ceil(len(lengths) / size)
    assert sorted(chain(*drawn)) == list(range(len(lengths)))
    assert max(map(len, drawn)) <= size
    assert max(map(len, drawn)) - min(map(len, drawn)) <= 1
    assert drawn == list(batches)


@given(lengths=LENGTHS, size=st.integers(1, 20), processes=st.integers(1, 4))
def test_processes_share_the_same_batches(lengths: list[int], size: int, processes: int) -> None:
    whole = list(LengthBatches(lengths, size, seed=3))
    shares = [list(LengthBatches(lengths, size, 3, process, processes)) for process in range(processes)]
    assert [sorted(chain(*parts)) for parts in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


def test_order_changes_with_epoch_and_seed() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, 200)
    batches = LengthBatches(lengths, 16, seed=0)
    first = list(batches)
    batches.set_epoch(1)
    assert first != list(batches) != list(LengthBatches(lengths, 16, seed=1))


def test_batches_hold_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, 1000)
    padded = sum(len(batch) * lengths[batch].max() for batch in LengthBatches(lengths, 32, seed=0))
    at_random = sum(32 * lengths[start : start + 32].max() for start in range(0, 1000, 32))
    assert padded / lengths.sum() < 1.1 < 1.6 < at_random / lengths.sum()


def test_padding_is_the_tokenizers() -> None:
    from transformers import AutoTokenizer

    from msplora_core.training.models import packaged_model

    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    examples = generate("paraphrase", "train", 6)
    ours = Padding(tokenizer.pad_token_id)(EncodedExamples(examples, tokenizer, 32).items)
    pairs = [list(column) for column in zip(*examples.texts, strict=True)]
    theirs = tokenizer(*pairs, padding="longest", truncation=True, max_length=32, return_tensors="pt")
    assert ours.keys() - {"labels"} == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert ours["labels"].tolist() == examples.labels


def test_evaluation_order_is_by_length() -> None:
    from transformers import AutoTokenizer

    from msplora_core.training.models import packaged_model

    encoded = EncodedExamples(
        generate("acceptability", "dev", 20), AutoTokenizer.from_pretrained(packaged_model()), 64
    ).by_length()
    lengths = [len(item["input_ids"]) for item in encoded.items]
    assert lengths == sorted(lengths, reverse=True) == encoded.lengths.tolist()


def test_metrics_agree_with_their_definitions() -> None:
    from scipy.stats import pearsonr
    from sklearn.metrics import accuracy_score, matthews_corrcoef

    random = np.random.default_rng(0)
    outputs, labels = random.normal(size=(50, 2)), random.integers(0, 2, 50)
    classes = outputs.argmax(1)
    assert METRICS["accuracy"](outputs, labels) == accuracy_score(labels, classes)
    assert METRICS["matthews"](outputs, labels) == matthews_corrcoef(labels, classes)
    scores = random.normal(size=50)
    assert METRICS["pearson"](outputs[:, :1], scores) == pytest.approx(pearsonr(outputs[:, 0], scores)[0], abs=1e-14)
    assert METRICS["matthews"](np.array([[1, 0], [1, 0]]), np.array([0, 1])) == 0
    assert math.isnan(METRICS["pearson"](np.ones((5, 1)), np.arange(5.0)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "wnli"}, "task: expected one of cola, mrpc"),
        ({"method": "dorra"}, "method: expected one of msplora, lora, "),
        ({"ranks": (8, -1, 2)}, "ranks: expected three whole numbers"),
        ({"rank": 0}, "rank: expected at least 1, found 0"),
        ({"epochs": 0}, "epochs: expected at least 1, found 0"),
        ({"batch_size": -3}, "batch_size: expected at least 1, found -3"),
        ({"max_train_examples": 0}, "max_train_examples: expected at least 1, found 0"),
        ({"max_eval_examples": 0}, "max_eval_examples: expected at least 1, found 0"),
        ({"alpha": (16, 8)}, "alpha: expected one positive number, or three: global, mid, layer, found (16, 8)"),
        ({"alpha": 0}, "alpha: expected one positive number, or three: global, mid, layer, found 0"),
        ({"method": "lora", "alpha": (1, 2, 3)}, "alpha: expected one number for method lora, found (1, 2, 3)"),
        ({"dropout": 1.0}, "dropout: expected at least 0 and less than 1, found 1.0"),
        ({"warmup": -0.1}, "warmup: expected a share of at least 0, or a whole number, found -0.1"),
        ({"warmup": 1.5}, "warmup: expected a share of at least 0, or a whole number, found 1.5"),
        ({"learning_rate": math.nan}, "learning_rate: expected a positive number, found nan"),
        ({"weight_decay": -1}, "weight_decay: expected a number of at least 0, found -1"),
        ({"seed": -1}, "seed: expected 0 to 4294967295, found -1"),
        ({"schedule": (("middle",),)}, "schedule: expected phases of the scales global, mid, layer, found"),
        ({"schedule": (("mid",),), "ranks": (8, 0, 2)}, "schedule: expected phases of the scales global, layer, found"),
        ({"schedule": (("mid",),) * 11}, "schedule: expected at most 10 phases, one an epoch, found"),
        ({"schedule": (("mid",),), "method": "lora"}, "schedule: expected none, for a method without scales, found"),
    ],
)
def test_values_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        replace(RunConfig(task="mrpc"), **changes)
    assert str(caught.value).startswith(message)


def test_three_alphas_may_be_a_list() -> None:
    assert RunConfig("mrpc", alpha=[16, 8, 4]) == RunConfig("mrpc", alpha=(16, 8, 4))
    with pytest.raises(ParameterError, match=r"alpha: expected one positive number, or three.*, found \(16, 8\)"):
        RunConfig("mrpc", alpha=[16, 8])


@pytest.mark.parametrize(
    ("task", "epochs", "rate", "length"),
    [
        ("mrpc", 30, 4e-4, 256),
        ("stsb", 40, 4e-4, 256),
        ("cola", 80, 4e-4, 256),
        ("rte", 80, 4e-4, 512),
        ("sst2", 60, 5e-4, 256),
        ("qnli", 25, 4e-4, 256),
    ],
)
def test_paper_preset(task: str, epochs: int, rate: float, length: int) -> None:
    config = RunConfig(task=task, **paper_settings(task))
    assert (config.epochs, config.learning_rate, config.max_length) == (epochs, rate, length)
    assert (config.batch_size, config.warmup, config.weight_decay) == (64, 0.06, 0.1)
    assert (config.alpha, config.dropout) == (16, 0.05)


def test_unknown_presets() -> None:
    with pytest.raises(ParameterError, match=r"^preset: expected one of paper, paper-llama, found mine$"):
        preset_settings("mine", "mrpc")
    with pytest.raises(ParameterError, match=r"^task: expected one of the paper's, mrpc, .*, found similarity$"):
        preset_settings("paper", "similarity")


@pytest.mark.parametrize("task", ["acceptability", "paraphrase"])
def test_a_bag_of_words_does_not_solve_generated_tasks(task: str) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, dev = generate(task, "train", 2000), generate(task, "dev", 1000)
    for binary in (False, True):
        bags = CountVectorizer(binary=binary)
        model = LogisticRegression(C=0.1, max_iter=1000)
        model.fit(bags.fit_transform(map(" ".join, train.texts)), train.labels)
        assert model.score(bags.transform(map(" ".join, dev.texts)), dev.labels) < 0.56
    assert np.mean(dev.labels) == 0.5


@pytest.mark.parametrize("task", ["acceptability", "paraphrase", "similarity"])
def test_generated_tasks_are_fixed_and_varied(task: str) -> None:
    train, dev = generate(task, "train"), generate(task, "dev")
    assert train == generate(task, "train")
    assert not set(train.texts) & set(dev.texts)
    assert len(set(train.texts)) == len(train)
    assert len({word for texts in train.texts for text in texts for word in text.split()}) > 100


def test_graded_similarity_takes_all_grades() -> None:
    assert sorted(set(generate("similarity", "train").labels)) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
