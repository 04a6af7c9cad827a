"""Messages are one short printable line, whatever they quote."""

from __future__ import annotations

import pickle

import pytest

from msplora_core.errors import (
    ComparisonError,
    FileError,
    MissingDependencyError,
    MSPLoraError,
    ParameterError,
    TrainingError,
    UnsupportedAdapterError,
)


def test_hostile_values_stay_one_short_printable_line() -> None:
    error = FileError("a.safetensors", key="x", expected="a name", found="\x1b[31m" + "a\nb" * 1000)
    assert str(error).isprintable()
    assert len(str(error)) < 260


@pytest.mark.parametrize("kind", [MSPLoraError, TrainingError, ComparisonError, UnsupportedAdapterError])
def test_every_message_is_one_printable_line(kind: type[MSPLoraError]) -> None:
    error = kind("runs/\x1b[2J:\nstopped\u202e")
    assert str(error) == "runs/?[2J: stopped?"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_parts_of_a_message_are_printable() -> None:
    assert str(ParameterError("a\x07", expected="b\n", found="c", hint="d\x1b")).isprintable()
    assert str(FileError("a\x07", expected="b\n", found="c", hint="d\x1b")).isprintable()


def test_standard_handlers_catch_them_too() -> None:
    assert isinstance(ParameterError("rank", expected="1", found=2), ValueError)
    assert isinstance(MissingDependencyError("torch", purpose="x", extra="train"), ImportError)
    assert issubclass(FileError, MSPLoraError)


def test_errors_come_back_from_a_pickle_as_they_were() -> None:
    error = pickle.loads(pickle.dumps(FileError("a/b", key="k", expected="x", found="y", hint="z")))
    assert (type(error), str(error), error.key) == (FileError, "a/b: k: expected x, found y; z", "k")
