"""`msplora-analyze train`, end to end on a few sentences, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from msplora_cli.app import main
from msplora_core.method_list import METHODS
from msplora_core.runs import RunDirectory

PAIRS = [
    (1, "The council approved the budget on Monday .", "On Monday , the council passed the budget ."),
    (0, "The council approved the budget on Monday .", "The council rejected the budget on Friday ."),
    (1, 'He said " we are ready " .', 'He said : " we are prepared " .'),
    (0, "Shares of the company rose 3 percent .", "The company hired a new director ."),
    (1, "The storm left thousands without power .", "Thousands lost power because of the storm ."),
    (0, "The storm left thousands without power .", "The storm passed without damage ."),
    (1, "She won the race in record time .", "She took first place in record time ."),
    (0, "She won the race in record time .", "She withdrew before the race began ."),
    (1, "Police arrested two men after the robbery .", "Two men were arrested by police after the robbery ."),
    (0, "Police arrested two men after the robbery .", "Two policemen were hurt in the robbery ."),
]


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MRPC in the official layout, with ten pairs."""
    folder = tmp_path_factory.mktemp("glue")
    (folder / "MRPC").mkdir()
    rows = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    rows += [f"{label}\t{i}\t{i}\t{one}\t{two}" for i, (label, one, two) in enumerate(PAIRS)]
    for name in ("train.tsv", "dev.tsv"):
        (folder / "MRPC" / name).write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return folder


@pytest.fixture
def run_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in this process: arguments -> (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["msplora-analyze", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_an_alert_is_one_line(run_train, glue: Path, tmp_path: Path) -> None:
    """One step, at a learning rate of 0."""
    code, _, err = run_train(
        *("--task", "mrpc", "--data-dir", glue, "--out", tmp_path, "--epochs", 1, "--max-train-examples", 4)
    )
    assert code == 0, err
    [line] = [line for line in err.splitlines() if "never trained" in line]
    assert line.startswith(f"warning: {tmp_path}/mrpc-msplora-8-4-2-seed0: epoch 1: broken: never trained")
    assert "callback.py" not in err


def test_both_methods_on_minilm(run_train, glue: Path, tmp_path: Path) -> None:
    common = ("--task", "MRPC", "--data-dir", glue, "--out", tmp_path, "--epochs", 2, "--batch-size", 4)
    code, out, err = run_train(*common, "--method", "lora", "--method", "msplora")
    assert code == 0, err
    paths = [tmp_path / "mrpc-lora-r8-seed0", tmp_path / "mrpc-msplora-8-4-2-seed0"]
    assert out.splitlines() == list(map(str, paths))
    for count, path in enumerate(paths, 1):
        assert f"[{count}/2] {path}" in err
        assert f"{path.name}  epoch 1/2  loss " in err
        assert f"{path.name}  epoch 2/2  loss " in err
        run = RunDirectory(path)
        assert run.read_record().model == "all-MiniLM-L6-v2"
        assert run.read_record().layers == 6
        assert [snapshot.epoch for snapshot in run.snapshots()] == [0, 1, 2]
        assert (run.adapter_path / "adapter_model.safetensors").is_file()
    assert "accuracy" in err
    assert "newly initialized" not in err

    code, out, err = run_train(*common, "--method", "lora")
    assert (code, out) == (1, "")
    assert err == (
        f"error: {paths[0]}: expected no such folder yet, found a run; "
        "continue it with --resume, or use another --out\n"
    )
    code, out, err = run_train(*common, "--method", "lora", "--resume")
    assert (code, out) == (0, f"{paths[0]}\n")
    assert err == f"[1/1] {paths[0]}: finished already, left as it is\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "wnli"), "task: expected one of cola, mrpc, stsb, rte, sst2, qnli, acceptability, paraphrase, "
         "similarity, or a .json or .jsonl file, found wnli"),
        (("--task", "mrpc", "--method", "dorra"), f"method: expected one of {', '.join(METHODS)}, found dorra; the "
         "nearest is dora"),
        (("--task", "mrpc", "--method", "lora", "--set", "use_dorra=true"), "options: expected an option of lora, "
         "found use_dorra; the nearest is use_dora"),
        (("--task", "mrpc", "--method", "lora", "--set", "bias=some"), "options: bias: expected one of none, all, "
         "lora_only, found some"),
        (("--task", "mrpc", "--method", "lora", "--set", "r=4"), "options: expected the setting rank in place "
         "of an option, found r"),
        (("--task", "mrpc", "--ranks", "8,4"), "--ranks: expected three ranks: global, mid, layer, as in 8,4,2, "
         "found 8,4"),
        (("--task", "mrpc", "--ranks", "8,-4,2"), "ranks: expected three whole numbers (global, mid, layer), each at "
         "least 0 and one of them positive, found (8, -4, 2)"),
        (("--task", "mrpc", "--groups", "7"), "groups: expected 1 to 6, the number of layers with query, found 7"),
        (("--task", "mrpc", "--target", "q_proj"), "target_modules: expected linear modules of the model: dense, key, "
         "query, value, found q_proj"),
        (("--task", "mrpc", "--preset", "mine"), "preset: expected one of paper, paper-llama, found mine"),
        (("--task", "mrpc", "--schedule", "middle"), "schedule: expected phases of the scales global, mid, layer, "
         "found (('middle',),)"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(run_train, glue: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    out = tmp_path / "runs"
    assert run_train(*arguments, "--data-dir", glue, "--out", out) == (1, "", f"error: {message}\n")
    assert not out.exists()


def test_a_missing_file_is_named_before_anything_is_trained(run_train, glue: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    code, _, err = run_train("--task", "mrpc", "--task", "qnli", "--data-dir", glue, "--out", out)
    assert code == 1
    assert err == (
        f"error: {glue}/QNLI/train.tsv: expected a data file of QNLI, found no such file; "
        "--data-dir is the folder that contains QNLI/train.tsv\n"
    )
    assert not out.exists()


def test_a_model_that_cannot_be_loaded(run_train, glue: Path, tmp_path: Path) -> None:
    code, _, err = run_train("--task", "mrpc", "--data-dir", glue, "--out", tmp_path / "runs", "--model", tmp_path)
    assert code == 1
    assert err.splitlines()[-1].startswith(
        f"error: model: expected a folder or hub id that transformers can load for classification, found {tmp_path}; "
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments", [("--alpha", "sixteen"), ("--epochs", "ten"), ("--bogus",), ("--rank", "4"), ("--set", "bias")]
)
def test_wrong_usage(run_train, arguments: tuple[str, ...]) -> None:
    assert run_train("--task", "mrpc", *arguments)[0] == 2


def test_options_reach_the_runs(run_train, monkeypatch: pytest.MonkeyPatch, glue: Path, tmp_path: Path) -> None:
    import msplora_core.training.run as run

    configs = []
    monkeypatch.setattr(run, "train_run", lambda config, **_: configs.append(config))
    code, _, _ = run_train(
        *("--task", "mrpc", "--data-dir", glue, "--out", tmp_path, "--preset", "paper", "--epochs", 3),
        *("--method", "msplora", "--ranks", "8,4,2", "--ranks", "8/8/8", "--method", "lora", "--rank", 4),
        *("--seed", 1, "--seed", 2, "--alpha", 32, "--groups", "2,4", "--target", "key", "--rslora"),
    )
    assert code == 0
    assert [config.name for config in configs] == [
        f"mrpc-{method}-seed{seed}" for method in ("msplora-8-4-2", "msplora-8-8-8", "lora-r4") for seed in (1, 2)
    ]
    first = configs[0]
    assert (first.epochs, first.batch_size, first.alpha, first.groups) == (3, 64, 32.0, (2, 4))
    assert (first.target_modules, first.rslora, first.learning_rate) == (("key",), True, 4e-4)


def test_termination_is_told(glue: Path, tmp_path: Path) -> None:
    import signal

    command = [sys.executable, "-m", "msplora_cli", "train", "--task", "mrpc", "--data-dir", str(glue)]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path), "--epochs", "500"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    ) as process:
        assert process.stderr is not None
        while "epoch   1/500" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        f"error: {tmp_path}/mrpc-msplora-8-4-2-seed0: ended by a signal to terminate; "
        "its records are kept, and --resume continues from there"
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from msplora_cli.app import app\n"
        "try: app(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "Example: msplora-analyze train" in done.stdout
