"""Study files: the runs they mean, and each wrong one told in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from msplora_core.errors import StudyFileError
from msplora_core.study import Study, read_study

GOOD = """\
out = "runs"
tasks = ["sst2", "STS-B"]
seeds = [0, 1]
data_dir = "glue"

[settings]  # of every run
epochs = 10
max_train_examples = 1000

[[methods]]
method = "lora"
rank = [2, 8]

[[methods]]
method = "msplora"
ranks = [[8, 4, 2], [8, 8, 8]]
alpha = [16, 8, 4]

[tune]
learning_rate = [5e-4, 1e-3]
tasks = ["stsb"]
seeds = [100]
"""


@pytest.fixture
def study(tmp_path: Path):
    """Reads a text as a study file."""

    def read(text: str) -> Study:
        path = tmp_path / "study.toml"
        path.write_text(text, encoding="utf-8")
        return read_study(path)

    return read


def test_a_list_multiplies_and_paths_are_relative_to_the_file(study, tmp_path: Path) -> None:
    read = study(GOOD)
    names = ("lora-r2", "lora-r8", "msplora-8-4-2", "msplora-8-8-8")
    configs = read.runs(dict.fromkeys(names, 1e-3))
    assert [config.name for config in configs] == [
        f"{task}-{name}-seed{seed}" for seed in (0, 1) for task in ("sst2", "stsb") for name in names
    ]
    assert {config.out for config in configs} == {tmp_path / "runs"}
    assert {config.data_dir for config in configs} == {tmp_path / "glue"}
    assert {(one.epochs, one.max_train_examples, one.learning_rate) for one in configs} == {(10, 1000, 1e-3)}
    assert {config.alpha for config in configs} == {16, (16, 8, 4)}


def test_methods_wait_for_their_learning_rate(study) -> None:
    read = study(GOOD)
    assert {config.method_name for config in read.runs({"lora-r8": 1e-3})} == {"lora-r8"}
    tuning = read.tuning_runs()
    assert list(tuning) == ["lora-r2", "lora-r8", "msplora-8-4-2", "msplora-8-8-8"]
    assert [config.path.relative_to(read.out).as_posix() for runs in tuning["lora-r2"].values() for config in runs] == [
        "tuning/lr-0.0005/stsb-lora-r2-seed100",
        "tuning/lr-0.001/stsb-lora-r2-seed100",
    ]


def test_a_control_with_random_labels_is_a_method_of_its_own_at_the_same_learning_rate(study) -> None:
    read = study(GOOD.replace("rank = [2, 8]", "rank = 2\nrandom_labels = [false, true]"))
    assert list(read.tuning_runs()) == ["lora-r2", "msplora-8-4-2", "msplora-8-8-8"]
    assert not any(run.random_labels for runs in read.tuning_runs()["lora-r2"].values() for run in runs)
    names = [(run.name, run.learning_rate) for run in read.runs({"lora-r2": 2e-3})[:2]]
    assert names == [("sst2-lora-r2-seed0", 2e-3), ("sst2-lora-r2-random-labels-seed0", 2e-3)]


def test_places_given_win(study, tmp_path: Path) -> None:
    study(GOOD)
    read = read_study(tmp_path / "study.toml", out=Path("there"), data_dir=Path("data"))
    assert (read.out, read.data_dir) == (Path("there"), Path("data"))


def test_a_preset_and_a_model_beside_the_file(study, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    settings = '[settings]\npreset = "paper"\nmodel = "bert"\nbatch_size = 7\n[[methods]]\nrslora = true\n'
    [config] = study(f'tasks = ["rte"]\nseeds = [3]\n{settings}').runs({})
    assert (config.epochs, config.max_length, config.batch_size, config.rslora) == (80, 512, 7, True)
    assert config.model == str(tmp_path / "bert")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("epochs = 10", "epoch = 10", "line 7: settings.epoch: expected a known key, found epoch; "
         "the nearest is epochs"),
        ("seeds = [0, 1]", "seed = [0, 1]", "line 3: seed: expected a known key, found seed; "
         "the nearest is seeds"),
        ('out = "runs"', "rslora = true", "line 1: rslora: expected a known key, found rslora; "
         "it belongs below [settings] or [[methods]]"),
        ("rank = [2, 8]", "ran = 2", "line 12: methods.ran: expected a known key, found ran; "
         "the nearest is rank"),
        ("seeds = [100]", "seed = [100]", "line 22: tune.seed: expected a known key, found seed; "
         "the nearest is seeds"),
        ("epochs = 10", 'epochs = "ten"', "line 7: settings.epochs: expected a whole number, found ten"),
        ("epochs = 10", "epochs = true", "line 7: settings.epochs: expected a whole number, found True"),
        ("seeds = [0, 1]", "seeds = 0", "line 3: seeds: expected a list of whole numbers, found 0"),
        ("rank = [2, 8]", "rank = [2, 8.5]", "line 12: methods.rank: expected a whole number, or a list of such, "
         "found [2, 8.5]"),
        ("[[8, 4, 2], [8, 8, 8]]", "[8, 4]", "line 16: methods.ranks: expected a list of 3 whole numbers, or a list of "
         "such, found [8, 4]"),
        ('tasks = ["sst2", "STS-B"]', "tasks = []", "line 2: tasks: expected at least one value, found []"),
        ("rank = [2, 8]", "rank = []", "line 12: methods.rank: expected at least one value, found []"),
        ("learning_rate = [5e-4, 1e-3]", "learning_rate = []", "line 20: tune.learning_rate: expected at least one "
         "value, found []"),
        ("[5e-4, 1e-3]", "[-1.0, 1e-3]", "line 20: tune.learning_rate: expected positive numbers, found [-1.0, 0.001]"),
        ("[5e-4, 1e-3]", "[nan]", "line 20: tune.learning_rate: expected positive numbers, found [nan]"),
        ("seeds = [100]", "seeds = [-1]", "line 22: tune.seeds: expected 0 to 4294967295, found -1"),
        ('tasks = ["stsb"]', 'tasks = ["wnli"]', "line 21: tune.tasks: expected one of cola, mrpc, stsb, rte, sst2, "
         "qnli, acceptability, paraphrase, similarity, or a .json or .jsonl file, found wnli"),
        ('tasks = ["sst2", "STS-B"]', 'tasks = ["wnli"]', "line 2: tasks: expected one of cola, mrpc, stsb, rte, sst2, "
         "qnli, acceptability, paraphrase, similarity, or a .json or .jsonl file, found wnli"),
        ("rank = [2, 8]", "ranks = [8, 8, 8]", "line 12: methods.ranks: expected a method that has it (msplora), found "
         "lora"),
        ("rank = [2, 8]", "rank = 0", "line 12: rank (method 1 of 3): expected at least 1, found 0"),
        ("rank = [2, 8]", "rank = [2, 2]", "expected one method or setting for each run directory, found 2 that mean "
         "sst2-lora-r2-seed0; runs are named after task, method with ranks, and seed; use another study for "
         "other settings"),
        ("rank = [2, 8]", "rank = 2\nlearning_rate = 1e-3", "line 13: methods.learning_rate: expected none, since "
         "[tune] chooses it, found 0.001"),
        ("seeds = [100]", "seeds = [1, 100]", "line 22: tune: expected tasks and seeds that the study itself does not "
         "use, found stsb with seed 1"),
        ("[tune]", "[tune", "expected TOML in UTF-8, found Expected ']' at the end of a table declaration (at line 19, "
         "column 6)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(study, tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in GOOD
    with pytest.raises(StudyFileError, match=f"^{re.escape(f'{tmp_path}/study.toml: {message}')}$"):
        study(GOOD.replace(before, after))


def test_what_is_missing(study, tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="seeds: expected a list, found none"):
        study('tasks = ["cola"]\n[[methods]]\nrank = 2\n')
    with pytest.raises(StudyFileError, match=r"methods: expected at least one table \[\[methods\]\], found \[\]"):
        study('tasks = ["cola"]\nseeds = [1]\n')
    with pytest.raises(StudyFileError, match=r"nowhere.toml: expected a study file, found nothing there"):
        read_study(tmp_path / "nowhere.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(StudyFileError, match=r"pipe.toml: expected a study file, found a FIFO or device"):
        read_study(tmp_path / "pipe.toml")
