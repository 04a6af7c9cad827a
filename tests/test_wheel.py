"""The wheel works where there is no checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys, msplora_core, msplora_analysis, msplora_cli
from msplora_cli.app import main
for package in (msplora_core, msplora_analysis, msplora_cli):
    assert package.__file__.startswith(sys.prefix), package.__file__
sys.argv[0] = "msplora-analyze"
main()
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_analyses_an_adapter_without_the_checkout(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: what an earlier build left in the checkout is not in it
    for package in ("msplora_core", "msplora_analysis", "cli"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "dist", cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    # The installed dependencies of this environment, without the editable install that stands among them.
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    (packages / "dependencies.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    run(*pip, "--python", home / "bin" / "python", "install", "--no-deps", wheel, cwd=tmp_path)
    names = "base_model.model.layers.{}.q_proj.lora_{}.weight"
    tensors = {names.format(i, "A"): np.eye(2, 6, dtype="f4") for i in range(3)}
    tensors |= {names.format(i, "B"): np.eye(5, 2, dtype="f4") for i in range(3)}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    run(home / "bin" / "python", "-I", "-c", PROGRAM, "svd", adapter, cwd=tmp_path)
    assert (adapter / "analysis" / "summary.json").is_file()
    assert list((adapter / "analysis").glob("*.png"))
