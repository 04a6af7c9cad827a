"""What becomes of errors at the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_cli.console import data, messages, say

HIDE = """
import sys
for name in {names}:
    sys.modules[name] = None  # as if it were not installed
"""


def run(code: str, *hidden: str) -> subprocess.CompletedProcess[str]:
    code = HIDE.format(names=hidden) + code
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_command_that_needs_torch_says_so_without_it() -> None:
    done = run("sys.argv[1:] = ['train', '--task', 'mrpc']\nfrom msplora_cli.app import main\nmain()", "torch")
    assert done.returncode == 1
    assert done.stderr == 'error: this command needs torch: pip install "msplora[train]"\n'


def test_the_version() -> None:
    from importlib.metadata import version

    done = run("sys.argv[1:] = ['--version']\nfrom msplora_cli.app import main\nmain()", "torch", "pandas")
    assert (done.returncode, done.stdout) == (0, f"msplora {version('msplora')}\n")


def test_so_does_a_name_of_the_library() -> None:
    done = run("from msplora_core import MSPLoraConfig", "peft")
    assert 'msplora_core.MSPLoraConfig needs peft: pip install "msplora[train]"' in done.stderr


def test_another_missing_module_is_a_fault_of_ours_and_stays_one() -> None:
    done = run("from msplora_core import RunDirectory", "safetensors")
    assert "ModuleNotFoundError" in done.stderr
    assert "msplora[train]" not in done.stderr


def test_a_terminal_without_our_signs_gets_question_marks(tmp_path: Path) -> None:
    factors = {"lora_A": np.ones((2, 8)), "lora_B": np.ones((6, 2))}
    weights = {f"base_model.model.layers.0.query.{name}.weight": value for name, value in factors.items()}
    save_file(weights, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    code = "from msplora_cli.app import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert b"6 ? 8" in done.stdout


def test_colons_in_names_are_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    say("runs/:100:")
    messages().print("runs/:100:")
    data().print("runs/:100:")
    assert capsys.readouterr() == ("runs/:100:\n", 2 * "runs/:100:\n")
