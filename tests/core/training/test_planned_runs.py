"""Runs whose ranks come from a plan: `train --plan`, `plan = ` in a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msplora_core.errors import ParameterError, StudyFileError
from msplora_core.study import read_study
from msplora_core.study.worker import from_line, to_line
from msplora_core.training import RunConfig, train_run
from msplora_core.training.checking import check_fit

LORA = {
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["query", "value"],
    "rank_pattern": {r"encoder\.layer\.1\.attention\.self\.query": 3},
    "alpha_pattern": {r"encoder\.layer\.1\.attention\.self\.query": 6},
}
MSPLORA = {
    "peft_type": "MSPLORA",
    "ranks": [4, 2, 1],
    "lora_alpha": [8, 4, 2],
    "target_modules": ["query", "value"],
    "rank_pattern": {r"encoder\.layer\.\d+\.attention\.self\.value": [2, 1, 1]},
}


@pytest.fixture
def plan(tmp_path: Path):
    """Writes a plan into a folder and returns the folder."""

    def write(content: object, name: str = "plan") -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "peft.json").write_text(json.dumps(content))
        return folder

    return write


def config_of(plan: Path, model: Path, **more: object) -> RunConfig:
    return RunConfig(**{"task": "acceptability", "plan": plan, "model": str(model), "epochs": 1, **more})


def test_a_planned_run_trains_resumes_and_has_exactly_these_ranks(plan, tiny_model: Path, few, tmp_path: Path) -> None:
    folder = plan(LORA)
    config = config_of(folder, tiny_model, out=tmp_path / "runs")
    run = train_run(config, data=few)
    record = run.read_record()
    ranks = {component["key"]: component["rank"] for component in record.components if "total" not in component["key"]}
    assert ranks == {f"layer/{module}/{layer}": 2 for layer in range(3) for module in ("query", "value")} | {
        "layer/query/1": 3
    }
    assert {component["scaling"] for component in record.components if "total" not in component["key"]} == {2.0}
    assert record.method == "lora-plan"
    assert record.hyperparameters["plan"] == LORA
    assert "rank" not in record.hyperparameters
    assert train_run(config, resume=True, data=few).path == run.path
    plan({**LORA, "r": 1})
    with pytest.raises(ParameterError, match=r"plan: expected .*'r': 2.*, as in the run to resume"):
        train_run(config, resume=True, data=few)


def test_a_plan_of_msplora_says_the_method(plan, tiny_model: Path) -> None:
    config = config_of(plan(MSPLORA), tiny_model)
    assert (config.method, config.ranks, config.method_name) == ("msplora", (4, 2, 1), "msplora-plan")
    check_fit(config)


@pytest.mark.parametrize(("content", "method"), [(LORA, "dora"), (MSPLORA, "msplora")])
def test_a_plan_of_dora_trains_dora(plan, tiny_model: Path, content: dict, method: str) -> None:
    config = config_of(plan({**content, "use_dora": True}), tiny_model)
    assert (config.method, config.method_name) == (method, f"{method}-plan")
    assert config.hyperparameters()["plan"]["use_dora"] is True
    model = check_fit(config)
    assert any("magnitude" in name for name, _ in model.named_parameters())


def test_a_run_goes_through_a_line_of_json(plan, tiny_model: Path) -> None:
    config = config_of(plan(LORA), tiny_model)
    back = from_line(to_line(config))
    assert (back.name, back.hyperparameters()) == (config.name, config.hyperparameters())


def test_task_and_seed_stand_for_those_of_the_run(plan, tmp_path: Path) -> None:
    plan(LORA, "plans/shuffled/mrpc-3")
    config = RunConfig(task="mrpc", seed=3, plan=tmp_path / "plans/shuffled/{task}-{seed}")
    assert config.name == "mrpc-lora-shuffled-seed3"
    with pytest.raises(
        ParameterError, match=r"plan: expected the output of msplora-analyze plan --out, found .*mrpc-4"
    ):
        RunConfig(task="mrpc", seed=4, plan=config.plan)


def test_a_study_holds_plans_beside_uniform_ranks(plan, tmp_path: Path) -> None:
    for name in ("planned/mrpc", "planned/cola", "shuffled/mrpc", "shuffled/cola"):
        plan(LORA, f"plans/{name}")
    file = tmp_path / "study.toml"
    file.write_text(
        'tasks = ["mrpc", "cola"]\nseeds = [0]\n[[methods]]\nmethod = "lora"\nrank = 2\nalpha = 4\n'
        '[[methods]]\nplan = ["plans/planned/{task}", "plans/shuffled/{task}"]\n'
    )
    names = [config.name for config in read_study(file).runs({})]
    assert names == [f"{task}-lora-{kind}-seed0" for task in ("mrpc", "cola") for kind in ("r2", "planned", "shuffled")]
    file.write_text(file.read_text().replace("plans/planned/{task}", "plans/lost/{task}"))
    with pytest.raises(StudyFileError, match=r"study.toml: line 8: plan .*lost/mrpc"):
        read_study(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**LORA, "r": 0}, "r: expected a whole number of at least 1, found 0"),
        ({**LORA, "rank_pattern": {"(": 2}}, "rank_pattern: expected a regular expression"),
        ({**LORA, "rank_pattern": {"(a+)+b": 2}}, "rank_pattern: expected a pattern without repeats of groups"),
        ({**LORA, "target_modules": None}, "target_modules: expected names of modules"),
        ({**MSPLORA, "ranks": [4, 2]}, "ranks: expected three whole numbers"),
        ({**MSPLORA, "rank_pattern": {"value": 2}}, "value: expected three whole numbers"),
        ({**MSPLORA, "rank_pattern": [2]}, "rank_pattern: expected three ranks by pattern"),
        ([LORA], "expected a JSON object"),
    ],
)
def test_a_file_that_is_no_plan_is_told_in_one_line(plan, content: object, message: str) -> None:
    with pytest.raises(ParameterError, match=r"^plan: .*") as raised:
        RunConfig(task="mrpc", plan=plan(content))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_plan_of_another_model_is_refused_before_it_trains(plan, tiny_model: Path) -> None:
    other = {**LORA, "rank_pattern": {r"encoder\.layer\.7\.attention\.self\.query": 3}}
    with pytest.raises(ParameterError, match=r"expected modules of tiny-bert, found encoder.*layer.*7"):
        check_fit(config_of(plan(other), tiny_model))
    with pytest.raises(ParameterError, match="plan: expected modules of tiny-bert, found q_proj"):
        check_fit(config_of(plan({**LORA, "target_modules": ["q_proj"]}), tiny_model))


@pytest.mark.parametrize("more", [{"rank_pattern": {"value": 2}}, {"target_modules": ("query",)}, {"groups": 2}])
def test_what_a_plan_holds_is_not_given_beside_it(plan, more: dict) -> None:
    with pytest.raises(ParameterError, match="expected none beside a plan"):
        RunConfig(task="mrpc", plan=plan(LORA), **more)
