"""A comparison needs equal settings, and the command that trains a baseline repeats them."""

from dataclasses import replace

import pytest

from msplora_analysis import analyse
from msplora_analysis.loading.settings import load_settings


@pytest.fixture
def trained(make_run):
    """Write a run with these hyper-parameters."""

    def write(name, method, seed=0, task="mrpc", data="", data_file="", **hyperparameters):
        run = make_run(f"study/{name}", method, seed=seed, task=task)
        record = replace(run.read_record(), hyperparameters=hyperparameters, data=data, data_file=data_file)
        run.write_record(record)
        return run

    return write


def next_step(path):
    return next(one for one in analyse(path, draws=0).claims if one.number == "2").verdict.next_step


def test_the_command_for_a_baseline_has_the_settings_of_the_runs(trained, tmp_path):
    hyperparameters = {"ranks": [8, 4, 2], "alpha": 16, "epochs": 10, "bf16": True, "rslora": False,
                       "target_modules": ["query", "value"], "micro_batch": None, "learning_rate": 0.002}  # fmt: skip
    for seed in (0, 1):
        trained(f"a{seed}", "msplora-8-4-2", seed, **hyperparameters)
        trained(f"b{seed}", "lora-r8", seed)
    assert next_step(tmp_path / "study").endswith(
        "msplora-analyze train --method lora --rank 2 --model minilm --task mrpc --seed 0 --seed 1 --alpha 16 "
        "--target query --target value --learning-rate 0.002 --epochs 10 --bf16 --out RUNS, with their --data-dir"
    )


def test_settings_of_each_task_are_named_beside_the_command(trained, tmp_path):
    for task, epochs in {"mrpc": 30, "cola": 80}.items():
        trained(f"a-{task}", "msplora-8-4-2", task=task, epochs=epochs, bf16=True)
        trained(f"b-{task}", "lora-r8", task=task)
    assert next_step(tmp_path / "study").endswith(
        "--task cola --task mrpc --seed 0 --bf16 --out RUNS, with their --data-dir, each run's own epochs"
    )


@pytest.mark.parametrize(("file", "named"), [("gsm train.jsonl", "'gsm train.jsonl'"), ("", "gsm.json")])
def test_a_file_of_instructions_is_named_as_train_takes_it(trained, tmp_path, file, named):
    trained("a", "msplora-8-4-2", task="gsm", data="0" * 64, data_file=file, epochs=1)
    trained("b", "lora-r8", task="gsm")
    assert f"--model minilm --task {named} --seed 0 --epochs 1" in next_step(tmp_path / "study")


def test_pairs_with_other_settings_are_named(trained, tmp_path):
    same = {"epochs": 10, "batch_size": 16, "learning_rate": 0.002}
    trained("a0", "msplora-8-8-8", 0, ranks=[8, 8, 8], **same)
    trained("b0", "lora-r8", 0, rank=8, **same | {"learning_rate": 0.001})
    assert not any("against" in note for note in analyse(tmp_path / "study", draws=0).notes)
    trained("a1", "msplora-8-8-8", 1, ranks=[8, 8, 8], **same)
    trained("b1", "lora-r8", 1, rank=8, **same | {"learning_rate": 0.001, "epochs": 3})
    notes = analyse(tmp_path / "study", draws=0).notes
    assert "msplora-8-8-8 against lora-r8: epochs 10 against 3 (a1 and b1)" in notes


def test_untrusted_settings_are_printable_and_no_others_are_in_the_command(trained, tmp_path):
    strange = {"epochs": {"x": [1]}, "batch_size": "1; rm\x1b[31m", "target_modules": 5, "alpha": [16, 8, 4]}
    trained("a", "msplora-8-4-2", **strange, init="\x1b[31mkaiming")
    trained("b", "lora-r8")
    command = next_step(tmp_path / "study")
    assert command.isprintable()
    assert "--seed 0 --batch-size '1; rm" in command
    assert not any(word in command for word in ("--epochs", "--target", "--alpha"))
    trained("c", "msplora-8-4-2", **strange, init="kaiming")
    assert all(name.isprintable() for name in analyse(tmp_path / "study", draws=0).table["method"].unique())


def test_damaged_runs_and_folders_without_runs_have_no_settings(trained, tmp_path):
    run = trained("a", "lora-r8", epochs=3)
    assert load_settings(run.path) == {"a": {"epochs": 3, "task": "mrpc"}}
    run.record_path.write_text("{")
    assert load_settings(run.path) == load_settings(tmp_path / "missing") == {}
