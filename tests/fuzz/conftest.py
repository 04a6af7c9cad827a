"""Mutations of valid files, and what a user would do with them: for the tests in this folder.

`make fuzz` runs more mutations than CI does; MSPLORA_FUZZ says how many, MSPLORA_FUZZ_SEED which.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msplora_analysis import SkippedWarning, analyse, load_scores, load_spectra
from msplora_analysis.report.gallery import draw_figures
from msplora_analysis.report.summary import to_json
from msplora_core.errors import MSPLoraError

MUTATIONS = int(os.environ.get("MSPLORA_FUZZ", 12_000))
SEED = int(os.environ.get("MSPLORA_FUZZ_SEED", 0))
CONSTANT = 2**26
"""Bytes of memory that reading may take, beside twice the size of the files."""

Files = dict[str, bytes]

VALUES = [None, True, -1, 0, 1, 2, 3, 7, 2**31, 2**63, 10**30, 1e308, -0.5, "", "q", "lora", "\n", "\u202e", [], [1],
          {}, {"q": 1}, {"": -1}, ["q"], "(a+)+$", "../../x", "LOHA", "VERA", [10**9] * 2, [0, 2**62],
          "BOOL", "I64", "C64", "F8_E8M0", "F8_E4M3", "F4", "BF16", "$\\frac$", "\x1b[2J", "1e5", "100000"]  # fmt: skip
NAMES = ["x", "a.lora_A", "\x1b[2J", "layer/q/2147483647", "layer/$x^$/0", "global/q/0", "total/v/5", "mid/q/1",
         "inner/q", "factor_A/layer/q/1", "layer/" + "ö" * 400 + "/0", "eval_accuracy", "epoch", "step"]  # fmt: skip
SPECTRA = [[1e308, 1e308], [0.0, 0.0], [1.0, 0.0], [5e-324, 5e-324], [1.7e308, 5e-324], [2.0, 2.0], [np.nan, 1.0]]


def flip(chance: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        changed[chance.randrange(len(changed))] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
    return bytes(changed)


def cut(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randrange(len(content))]


def stir(chance: random.Random, content: bytes) -> bytes:
    """Drop, repeat or insert a stretch."""
    start = chance.randrange(len(content))
    stretch = content[start : start + chance.choice([1, 4, 8, 40])]
    return chance.choice(
        [content[:start] + content[start + len(stretch) :], content[:start] + stretch + content[start:]]
    )


def replace_value(chance: random.Random, value: Any) -> Any:
    """Put something else somewhere into a JSON value."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        change = chance.random()
        if change < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if change < 0.2:
            return {chance.choice([*value, *NAMES]) if n == key else n: v for n, v in value.items()}
        return {**value, key: replace_value(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], replace_value(chance, value[place]), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice([-8, -4, -1, 1, 4, 8])
    return chance.choice(VALUES)


def change_json(chance: random.Random, content: bytes) -> bytes:
    """Another value in a JSON file or in the header of a safetensors file."""
    start = 0 if content.startswith(b"{") else 8
    length = len(content) if start == 0 else int.from_bytes(content[:8], "little")
    try:
        value = json.loads(content[start : start + length])
    except ValueError:  # another mutation was here before
        return flip(chance, content)
    text = json.dumps(replace_value(chance, value)).encode()
    return text if start == 0 else struct.pack("<Q", len(text)) + text + content[8 + length :]


def change_line(chance: random.Random, content: bytes) -> bytes:
    """Another line in a file of JSON lines."""
    lines = content.split(b"\n")
    place = chance.randrange(len(lines))
    try:
        lines[place] = json.dumps(replace_value(chance, json.loads(lines[place]))).encode()
    except ValueError:
        lines[place] = json.dumps(chance.choice(VALUES)).encode()
    return b"\n".join(lines)


def change_numbers(chance: random.Random, content: bytes) -> bytes:
    """Other numbers in the tensors of a safetensors file; their types and shapes stay."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        spans = [entry["data_offsets"] for name, entry in header.items() if entry.get("dtype") == "F64"]
        (start, end), numbers = chance.choice(spans), chance.choice(SPECTRA)
    except (ValueError, AttributeError, TypeError, KeyError, IndexError):
        return flip(chance, content)
    first, last = 8 + length + start, 8 + length + end
    if not 0 <= first < last <= len(content):
        return flip(chance, content)
    new = np.sort(np.resize(numbers, (last - first) // 8))[::-1].astype("<f8").tobytes()
    return content[:first] + new.ljust(last - first, b"\0") + content[last:]


MUTATORS = [flip, cut, stir, change_json, change_json, change_json, change_numbers]


def mutations(name: str, files: Files) -> Iterator[Files]:
    """The files themselves, then mutations of one or more of them, without end."""
    chance = random.Random(f"{SEED} {name}")
    yield files
    while True:
        mutated = dict(files)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            target = chance.choice(list(mutated))
            if mutated[target]:
                mutators = [cut, stir, change_line, change_line] if target.endswith(".jsonl") else MUTATORS
                mutated[target] = chance.choice(mutators)(chance, mutated[target])
        yield mutated


def write(folder: Path, files: Files) -> None:
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def look(folder: Path, *, analysed: bool, drawn: bool) -> str:
    """What a user would do with a folder: its table, its scores, its measures and its pictures.

    Returns:
        The error in which that ends, or the first of what was left out; empty if there is none.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SkippedWarning)
        warnings.simplefilter("error", RuntimeWarning)
        try:
            table = load_spectra(folder)
            check_texts(table)
            assert np.isfinite(table["sigma"]).all()
            assert (table["sigma"] >= 0).all()
            check_texts(load_scores(folder))
            if analysed or drawn:
                analysis = analyse(folder)
                assert all(str(line).isprintable() for line in [*analysis.claims, *analysis.notes, *analysis.skipped])
                check_texts(analysis.final)
                json.loads(to_json(analysis))
            for name, figure in draw_figures(analysis) if drawn else ():
                assert name.isprintable()
                assert len(name.encode()) < 240
                figure.savefig(BytesIO(), format="png", dpi=20)
        except MSPLoraError as error:
            messages = [str(error)]
        else:
            messages = [str(one.message) for one in caught]
    assert all(message.isprintable() for message in messages)
    return next(iter(messages), "")


def check_texts(table: Any) -> None:
    """What a table says is printable."""
    for column in table.columns:
        assert all(str(value).isprintable() for value in table[column].unique())


class Fuzz:
    """One source of mutations for one test.

    Args:
        tmp_path: where a mutation that fails is kept.
        name: of the seed.
    """

    count = MUTATIONS
    write = staticmethod(write)
    look = staticmethod(look)

    def __init__(self, tmp_path: Path, name: str) -> None:
        self.tmp_path, self.name = tmp_path, name

    def mutations(self, files: Files, count: int) -> Iterator[tuple[int, Files]]:
        """The files themselves as number 0, then mutations of one or more of them."""
        yield from zip(range(count), mutations(self.name, files), strict=False)

    def check(self, number: int, files: Files, function: Callable[[], str], *, memory: bool = True) -> str:
        """Run a function on a mutation; fail on an exception, more than a minute, or too much memory."""
        if memory:
            tracemalloc.start()
        signal.alarm(60)
        try:
            return function()
        except BaseException as error:
            kept = self.tmp_path / f"mutation-{number}"
            write(kept, files)
            raise AssertionError(f"mutation {number} of {self.name}, kept in {kept}: {error!r}") from error
        finally:
            signal.alarm(0)
            if memory:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak < 2 * sum(map(len, files.values())) + CONSTANT, f"mutation {number} of {self.name}"


@pytest.fixture
def fuzz(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fuzz]:
    if not hasattr(signal, "SIGALRM"):
        pytest.skip("needs alarm signals to notice a hang")

    def too_long(*_: object) -> None:
        pytest.fail("still reading after a minute")

    before = signal.signal(signal.SIGALRM, too_long)
    yield Fuzz(tmp_path, request.node.name)
    signal.signal(signal.SIGALRM, before)
