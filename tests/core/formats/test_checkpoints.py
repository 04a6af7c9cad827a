"""Trainings that left adapters behind: checkpoints, folders of them, what names say of task and seed."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_core.errors import FileError, UnsupportedAdapterError
from msplora_core.formats import find_runs, read_adapter, recognise_run
from msplora_core.runs import RunDirectory, RunRecord


def write_adapter(folder, size=1.0, state=None, **config):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer in range(3):
        path = f"base_model.model.layers.{layer}.q_proj"
        tensors[f"{path}.lora_A.weight"] = np.eye(2, 6, dtype="f4")
        tensors[f"{path}.lora_B.weight"] = size * np.eye(5, 2, dtype="f4")
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": "some/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    if state is not None:
        (folder / "trainer_state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    return folder


def test_checkpoints_are_epochs(tmp_path):
    for epoch, step in ((1, 90), (2, 180), (10, 900)):
        write_adapter(tmp_path / f"checkpoint-{step}", state={"epoch": float(epoch), "global_step": step})
    write_adapter(tmp_path)  # the adapter at the end, as the last checkpoint has it
    run = recognise_run(tmp_path)()
    assert [(epoch, step, path.name) for epoch, step, path in run.checkpoints] == [
        (1, 90, "checkpoint-90"),
        (2, 180, "checkpoint-180"),
        (10, 900, "checkpoint-900"),
    ]
    assert run.notes == ()


def write_training(folder, sizes=(1.0, 2.0, 3.0), **state):
    """Three checkpoints of a training of three epochs."""
    for epoch, size in enumerate(sizes, 1):
        of_step = {"epoch": float(epoch), "global_step": 10 * epoch, "max_steps": 30} | state
        write_adapter(folder / f"checkpoint-{10 * epoch}", size, of_step)
    return folder


END = "The end of the training is the adapter beside its checkpoints, "


@pytest.mark.parametrize(
    ("size", "state", "own_state", "expected", "note"),
    [(2.0, {"best_model_checkpoint": "out/checkpoint-20"}, None, [1, 2, 3], "the best of them, and takes the place of"),
     (7.0, {"best_model_checkpoint": "out/checkpoint-20"}, None, [1, 2, 3], "other than"),
     (7.0, {}, {"epoch": 3.0, "global_step": 30}, [1, 2, 3], "other than"),
     (7.0, {"max_steps": 35}, {"epoch": 3.5, "global_step": 35}, [1, 2, 3, 3.5], "saved after")],
)  # fmt: skip
def test_an_adapter_beside_checkpoints_is_the_end_of_the_training(tmp_path, size, state, own_state, expected, note):
    folder = write_adapter(write_training(tmp_path / "run", **state), size, own_state)
    run = recognise_run(folder)()
    assert [one.epoch for one in run.checkpoints] == expected
    assert (run.last, run.finished) == (folder, True)
    assert run.notes == (f"{END}{note} the last of them.",)


def test_an_adapter_beside_checkpoints_that_cannot_be_read_is_named(tmp_path):
    folder = write_adapter(write_training(tmp_path / "run"))
    (folder / "adapter_model.safetensors").write_bytes(b"broken")
    run = recognise_run(folder)()
    assert run.last.name == "checkpoint-30"
    assert run.notes == (
        "The adapter beside the checkpoints cannot be read; the last of them is the end of the training.",
    )
    (folder / "adapter_model.safetensors").unlink()  # some tools write the configuration when training begins
    assert recognise_run(folder)().notes == ()


STOPPED = {"stateful_callbacks": {"TrainerControl": {"args": {"should_training_stop": True}}}}


@pytest.mark.parametrize(
    ("state", "planned", "finished"),
    [({}, 3, True), ({"max_steps": 100}, 10, False), ({"max_steps": 100, **STOPPED}, 10, True),
     ({"max_steps": None}, np.nan, True), ({"max_steps": -1}, np.nan, True), ({"stateful_callbacks": 5}, 3, True),
     ({"max_steps": 1000, "stateful_callbacks": {"TrainerControl": [1]}}, 100, False)],
)  # fmt: skip
def test_a_training_that_was_to_go_on_is_not_finished(tmp_path, state, planned, finished):
    folder = write_training(tmp_path / "run", **state)
    run = recognise_run(folder)()
    np.testing.assert_equal((run.planned, run.finished), (planned, finished))
    assert recognise_run(folder / "checkpoint-30")().finished is finished
    assert recognise_run(write_adapter(folder, 3.0))().finished  # saved at its end


def moments(folder):
    return [(epoch, step, path.name) for epoch, step, path in recognise_run(folder)().checkpoints]


@pytest.mark.parametrize(
    "states",
    [[None] * 3, [{"epoch": 1}, "{broken", {"epoch": 3}], [{"epoch": 1}] * 3,
     [{"epoch": 1}, {"epoch": 2}, {"epoch": 1e9}], [{"epoch": 3}, {"epoch": 1}, {"epoch": 2}]],
)  # fmt: skip
def test_checkpoints_of_unknown_epochs_have_steps(tmp_path, states):
    for step, state in zip((100, 500, 1000), states, strict=True):
        write_adapter(tmp_path / "run" / f"checkpoint-{step}", state=state)
    found = moments(tmp_path / "run")
    assert [(step, name) for _, step, name in found] == [
        (100, "checkpoint-100"),
        (500, "checkpoint-500"),
        (1000, "checkpoint-1000"),
    ]
    assert all(np.isnan(epoch) for epoch, _, _ in found)


def test_epochs_that_do_not_ascend_are_noted(tmp_path):
    for step in (1, 2):
        write_adapter(tmp_path / "run" / f"checkpoint-{step}", state={"epoch": 1})
    assert recognise_run(tmp_path / "run")().notes == (
        "run: the epochs in its trainer_state.json files do not ascend; its steps are used.",
    )


@pytest.mark.parametrize(
    ("stated", "expected"),
    [([0.07, 0.14, 0.32], [0.07, 0.14, 0.32]), ([0.997, 1.995, 2.992], [1, 2, 3]), ([1, 1.5, 2], [1, 1.5, 2]),
     ([0.99, 1.0, 1.01], [0.99, 1.0, 1.01])],
)  # fmt: skip
def test_epochs_are_whole_only_where_each_ends_one(tmp_path, stated, expected):
    for step, epoch in enumerate(stated, 1):
        write_adapter(tmp_path / "run" / f"checkpoint-{step}", state={"epoch": epoch, "global_step": step})
    assert [epoch for epoch, _, _ in moments(tmp_path / "run")] == expected


def test_a_checkpoint_alone_says_when_it_was_saved(tmp_path):
    assert moments(write_adapter(tmp_path / "checkpoint-7", state={"epoch": 0.5})) == [(0.5, 7, "checkpoint-7")]
    assert moments(write_adapter(tmp_path / "a", state={"epoch": 2, "global_step": 9})) == [(2.0, 9, "a")]
    [(epoch, step, _)] = moments(write_adapter(tmp_path / "b"))
    assert np.isnan(epoch)
    assert step is None


def test_a_run_directory_without_adapter_is_an_error(tmp_path):
    RunDirectory(tmp_path / "run").write_record(RunRecord("lora-r2", "minilm"))
    [opened] = find_runs(tmp_path)
    with pytest.raises(FileError, match=r"run: expected a run with adapter/ or checkpoints/, found neither"):
        opened()


def test_a_run_with_another_file_beside_its_adapter_has_that_adapter(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord("lora-r2", "minilm"))
    write_adapter(run.adapter_path)
    save_file({"w_a_0": np.ones((1, 2)), "w_b_0": np.ones((2, 1))}, run.adapter_path / "sam.safetensors")
    [opened] = find_runs(tmp_path)
    assert opened().path == run.adapter_path


def test_a_run_that_saved_a_whole_model_is_named(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.write_record(RunRecord("bitfit", "minilm"))
    run.adapter_path.mkdir()
    [opened] = find_runs(tmp_path)
    with pytest.raises(UnsupportedAdapterError, match="saved an adapter, found the model that bitfit trained; svd"):
        opened()


def test_a_checkpoint_that_leads_out_of_the_folder_is_refused(tmp_path):
    write_adapter(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match=r"checkpoint-1: expected a file in .*found a path outside it"):
        recognise_run(tmp_path / "run")()


def test_runs_are_found_at_any_depth(tmp_path):
    write_adapter(tmp_path / "mrpc" / "lora")
    write_adapter(tmp_path / "rte" / "checkpoint-5")
    save_file({"w_a_0": np.ones((1, 2)), "w_b_0": np.ones((2, 1))}, tmp_path / "sam.safetensors")
    for name in ("optimizer.pt", "training_args.bin", "model.safetensors", "notes.txt"):
        (tmp_path / name).write_bytes(b"no adapter")
    (tmp_path / ".hidden").mkdir()
    write_adapter(tmp_path / ".hidden" / "lora")
    found = [opened().path.relative_to(tmp_path).as_posix() for opened in find_runs(tmp_path)]
    assert found == ["mrpc/lora", "rte", "sam.safetensors"]


def test_links_are_followed_within_the_folder_only(tmp_path):
    outside, study = write_adapter(tmp_path / "outside"), tmp_path / "study"
    write_adapter(study / "a")
    (study / "b").symlink_to(study / "a")
    (study / "c").symlink_to(outside)
    (study / "d.safetensors").symlink_to(outside / "adapter_model.safetensors")
    (study / "e").symlink_to(study)
    found = find_runs(study)
    assert [found[place]().path.name for place in (0, 1)] == ["a", "b"]
    for opened in found[2:]:
        with pytest.raises(FileError, match="found a path outside it"):
            opened()
    assert len(found) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_waited_for(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors", "weights.safetensors"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "adapter_config.json").symlink_to(tmp_path / "adapter_config.json")
    for path in (tmp_path, tmp_path / "weights.safetensors", tmp_path / "link"):
        with pytest.raises(FileError):
            read_adapter(path)
