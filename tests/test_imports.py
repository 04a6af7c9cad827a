"""Analysis starts light: torch, transformers and peft are never loaded on its way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_core.runs import RunDirectory, RunRecord

TRAINING = ("torch", "transformers", "peft", "datasets", "accelerate", "sklearn")
HEAVY = (*TRAINING, "seaborn", "scipy.stats")
CHECK = """
import sys
{code}
loaded = [name for name in {names} if name in sys.modules]
assert not loaded, "loaded: " + ", ".join(loaded)
"""
COMMAND = """
sys.argv = ["msplora-analyze", *{arguments!r}]
from msplora_cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def check(code: str, names: tuple[str, ...] = HEAVY) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter and see what it loaded."""
    return subprocess.run(
        [sys.executable, "-c", CHECK.format(code=code, names=names)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for method in ("lora-r2", "msplora-2-2-2"):
        run = RunDirectory(tmp_path / method)
        run.write_record(RunRecord(method=method, model="minilm", task="mrpc", seed=0))
        scales = ["layer"] if method == "lora-r2" else ["global", "layer", "total"]
        for epoch in (0, 1, 2):
            spectra = {f"{scale}/q/{i}": epoch * np.array([2.0 + i, 1.0]) for scale in scales for i in range(3)}
            run.write_epoch(epoch, step=epoch, spectra=spectra)
    return tmp_path


def test_the_check_can_fail() -> None:
    failed = check("import json.tool", names=("json.tool",))
    assert failed.returncode == 1
    assert "loaded: json.tool" in failed.stderr


def test_the_check_sees_what_a_function_loads() -> None:
    code = "def late():\n    import json.tool\nlate()"
    assert "loaded: json.tool" in check(code, names=("json.tool",)).stderr


@pytest.mark.parametrize("package", ["msplora_analysis", "msplora_core"])
def test_importing_a_package_loads_almost_nothing(package: str) -> None:
    done = check(f"import {package}", (*HEAVY, "numpy", "pandas", "matplotlib", "scipy", "typer", "rich"))
    assert done.returncode == 0, done.stderr


def test_analysis_loads_nothing_heavy_with_every_public_name() -> None:
    done = check("import msplora_analysis as m\nfor name in m.__all__: getattr(m, name)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module", ["kernels", "loading.table", "measures", "comparison.difference", "analysis", "report.writing"]
)
def test_matplotlib_is_loaded_for_pictures_only(module: str) -> None:
    done = check(f"import msplora_analysis.{module}", (*HEAVY, "matplotlib", "pandas"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["svd"], ["svd", "--json", "--no-figures"], ["report"]])
def test_analysis_of_a_study_loads_nothing_heavy(study: Path, command: list[str]) -> None:
    drawn = "--no-figures" not in command
    names = (*TRAINING, "scipy") if drawn else (*HEAVY, "matplotlib")  # of seaborn, no more than what draws
    done = check(COMMAND.format(arguments=[command[0], str(study), *command[1:]]), names)
    assert done.returncode == 0, done.stderr
    assert (study / "analysis" / "report.html").is_file()
    assert (study / "analysis" / "fig3.png").is_file() == (command == ["svd"])


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    shapes = {"A": (2, 8), "B": (8, 2)}
    tensors = {
        f"base_model.model.layers.{i}.self_attn.q_proj.lora_{part}.weight": random.standard_normal(shape)
        for i in range(3)
        for part, shape in shapes.items()
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = '{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}'
    (tmp_path / "adapter_config.json").write_text(config)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["inspect"], (*HEAVY, "matplotlib", "pandas", "scipy")),
        (["svd", "--no-figures", "--no-report"], (*HEAVY, "matplotlib", "scipy")),
        (["plan"], (*HEAVY, "scipy")),  # its picture needs matplotlib
    ],
)
def test_commands_on_an_adapter_load_what_they_use(adapter: Path, command: list[str], names: tuple[str, ...]) -> None:
    done = check(COMMAND.format(arguments=[command[0], str(adapter), *command[1:]]), names)
    assert done.returncode == 0, done.stderr


def test_planning_loads_no_pictures() -> None:
    done = check("from msplora_analysis.planning import plan_files, rank_plan, trainer_texts", (*HEAVY, "matplotlib"))
    assert done.returncode == 0, done.stderr


def test_help_loads_neither_tables_nor_pictures() -> None:
    done = check(COMMAND.format(arguments=["svd", "--help"]), (*HEAVY, "pandas", "matplotlib", "numpy"))
    assert done.returncode == 0, done.stderr


WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import msplora_core.training
from msplora_core.errors import MissingDependencyError
for name in msplora_core.training.__all__:
    try:
        exec(f"from msplora_core.training import {{name}}")
        print(name, "is there")
    except MissingDependencyError as error:
        print(error)
"""


@pytest.mark.parametrize("blocked", [("torch",), ("torch", "transformers", "peft")])
def test_training_without_torch_says_what_to_install(blocked: tuple[str, ...]) -> None:
    code = WITHOUT_TORCH.format(blocked=blocked)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ("SpectralSnapshotCallback", "train_run"):
        needed = [line for line in lines if line.startswith(f"msplora_core.training.{name} needs ")]
        assert len(needed) == 1
        assert needed[0].endswith(': pip install "msplora[train]"')
    assert {"PRESETS is there", "RunConfig is there", "TASKS is there", "TaskData is there"} <= set(lines)
