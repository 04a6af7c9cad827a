"""`msplora-analyze params`, and what becomes of wrong options."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "msplora_cli", *arguments], capture_output=True, text=True)


def test_the_table_holds_both_methods() -> None:
    done = run("params", "--layers", "12", "--hidden", "768", "--ranks", "8,4,2")
    assert done.returncode == 0
    assert "294,912" in done.stdout
    assert "135,168" in done.stdout


def test_json_for_programs() -> None:
    done = run("params", "--layers", "32", "--hidden", "4096", "--ranks", "64,32,16", "--json")
    found = json.loads(done.stdout)
    assert (found["lora"]["parameters"], found["msplora"]["parameters"]) == (33_554_432, 11_010_048)
    assert sum(found["msplora"]["per_scale"].values()) == 11_010_048


def test_memory_and_time_of_the_7b_setting() -> None:
    words = ("params", "--layers", "32", "--hidden", "4096", "--ranks", "64,32,16", "--memory", "6.738e9")
    found = json.loads(run(*words, "--json").stdout)["training"]
    assert found["plain"]["bytes"]["base"] == 2 * 6_738_000_000
    assert found["gradient checkpointing"]["bytes"]["activations"] < found["plain"]["bytes"]["activations"] / 5
    assert found["gradient checkpointing"]["hours"] == pytest.approx(1.5 * found["plain"]["hours"])
    assert "17.3 GiB" in run(*words).stdout


def test_matrices_that_are_not_square() -> None:
    done = run(
        "params", "--layers", "32", "--shape", "4096x4096", "--shape", "1024x4096", "--ranks", "64,32,16", "--json"
    )
    found = json.loads(done.stdout)
    widths = 2 * 4096 + 1024 + 4096
    assert found["shapes"] == [[4096, 4096], [1024, 4096]]
    assert found["lora"]["parameters"] == widths * 64 * 32
    assert found["msplora"]["per_scale"] == {"global": widths * 64, "mid": widths * 3 * 32, "layer": widths * 32 * 16}
    assert found["msplora"]["parameters"] == sum(found["msplora"]["per_scale"].values())


def test_equal_shapes_are_the_same_as_a_width() -> None:
    by_width = run("params", "--layers", "12", "--hidden", "768", "--modules", "3", "--json")
    by_shape = run("params", "--layers", "12", *["--shape", "768x768"] * 3, "--json")
    assert by_width.stdout == by_shape.stdout


def test_without_groups_few_layers_have_a_group_each() -> None:
    found = json.loads(run("params", "--layers", "2", "--hidden", "8", "--json").stdout)
    assert found["msplora"]["units"] == {"global": 1, "mid": 2, "layer": 2}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--layers", "2", "--hidden", "8", "--groups", "3"],
            1,
            "error: groups: expected 1 to 2, the number of layers, found 3",
        ),
        (["--layers", "6"], 2, "expected either --hidden or --shape"),
        (["--layers", "6", "--hidden", "8", "--shape", "8x8"], 2, "expected either --hidden or --shape"),
        (["--layers", "6", "--shape", "8"], 2, "--shape: expected OUTxIN, as in 1024x4096, found '8'"),
        (["--layers", "6", "--shape", "0x8"], 2, "--shape: expected OUTxIN, as in 1024x4096, found '0x8'"),
        (["--layers", "6", "--shape", "8x8", "--modules", "2"], 2, "--modules goes with --hidden"),
        (["--layers", "6", "--hidden", "8", "--ranks", "8,-4,2"], 1, "error: ranks: expected three whole numbers"),
        (["--layers", "6", "--hidden", "8", "--ranks", "8,4"], 1, "error: --ranks: expected three ranks"),
        (["--layers", "6", "--hidden", "8", "--ranks", "8,x,2"], 2, "expected whole numbers separated by commas"),
        (["--layers", "0", "--hidden", "8"], 2, "--layers"),
        (["--layers", "6", "--hidden", "8", "--memory", "inf"], 2, "--memory"),
        (["--layers", "6", "--hidden", "8", "--memory", "1e9", "--training-tokens", "inf"], 2, "--training-tokens"),
        (["--hidden", "8"], 2, "Missing option"),
        (["--model", "x", "--memory", "6e9"], 2, "--memory: expected none beside --model"),
        (["--model", "x", "--hidden", "8"], 2, "--hidden: expected none beside --model"),
        (["--layers", "6", "--hidden", "8", "--method", "lora"], 2, "--method: expected none without --model"),
    ],
)
def test_bad_input(arguments: list[str], code: int, message: str) -> None:
    done = run("params", *arguments)
    assert done.returncode == code
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
