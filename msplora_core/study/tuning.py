"""Choose the learning rate of each method by the dev metric, on tasks and seeds that the study does not use."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from msplora_core.errors import FileError, StudyFileError
from msplora_core.runs import RunDirectory
from msplora_core.runs.directory import TUNING
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.json_file import read_json_object
from msplora_core.study.definition import Study
from msplora_core.study.entries import failure_of, last_score, look
from msplora_core.training.run_config import RunConfig
from msplora_core.training.run_settings import differences, settings_of

FORMAT = "msplora-study"
VERSION = 1


@dataclass(frozen=True)
class Candidate:
    """A learning rate tried for a method.

    Args:
        learning_rate: the rate.
        scores: dev metric of each run at its last epoch, by the run's name; None if the training diverged or the
            metric is undefined.
    """

    learning_rate: float
    scores: dict[str, float | None]

    @property
    def mean(self) -> float:
        """Mean score; minus infinity if one is missing."""
        scores = list(self.scores.values())
        return -math.inf if None in scores else fmean(score for score in scores if score is not None)


def chosen_rates(study: Study) -> dict[str, float]:
    """Return the learning rates chosen so far, by method.

    They are read from the study's record, which is completed from the finished runs in `tuning/`.

    Raises:
        StudyFileError: if the record cannot be read or is of a newer version, or the study's settings have changed
            since the rates were chosen.
    """
    recorded = _read(study)
    rates: dict[str, float] = {}
    tuned = dict(recorded)
    for method, candidates in study.tuning_runs().items():
        entry = recorded.get(method)
        if entry is not None and _covers(entry, candidates):
            _check_settings(study, method, entry, candidates)
            rates[method] = entry["learning_rate"]
            continue
        found = [_candidate(rate, configs) for rate, configs in candidates.items()]
        tried = [one for one in found if one is not None]
        best = max(tried, key=lambda one: (one.mean, -one.learning_rate), default=None)
        if best is None or len(tried) < len(found) or best.mean == -math.inf:
            continue
        rates[method] = best.learning_rate
        tuned[method] = {
            "learning_rate": best.learning_rate,
            "candidates": [asdict(one) for one in tried],
            "settings": {config.name: _settings(config) for config in candidates[best.learning_rate]},
        }
    if tuned != recorded:
        content = {"format": FORMAT, "version": VERSION, "study": study.path.name, "tuning": tuned}
        write_atomically(study.record_path, json.dumps(content, indent=2).encode() + b"\n")
    return rates


def _candidate(rate: float, configs: list[RunConfig]) -> Candidate | None:
    """A candidate's scores; None while its runs are not all trained."""
    scores: dict[str, float | None] = {}
    for config in configs:
        if look(config).state == "done":
            scores[config.name] = last_score(config)
        elif (failure := failure_of(config)) is not None and failure.diverged:
            scores[config.name] = None
        else:
            return None
    return Candidate(rate, scores)


def _covers(entry: dict[str, Any], candidates: dict[float, list[RunConfig]]) -> bool:
    """Whether a recorded choice was made among the same candidates on the same runs."""
    tried = {one["learning_rate"]: set(one["scores"]) for one in entry["candidates"]}
    return tried == {rate: {config.name for config in configs} for rate, configs in candidates.items()}


def _settings(config: RunConfig) -> dict[str, Any]:
    return {name: value for name, value in settings_of(config).items() if name != "learning_rate"}


def _check_settings(study: Study, method: str, entry: dict[str, Any], candidates: dict[float, list[RunConfig]]) -> None:
    """Refuse a choice under other settings than the study's."""
    for config in candidates[entry["learning_rate"]]:
        found = entry.get("settings", {}).get(config.name) or _trained_with(config)
        for name, there, value in (
            differences({"learning_rate": config.learning_rate, **found}, config) if found else ()
        ):
            raise StudyFileError(
                study.record_path,
                key=f"tuning.{method}",
                expected=f"a learning rate chosen with {name} {value}, as in {study.path.name}",
                found=f"one chosen with {there}",
                hint=f"{_AGAIN}; or set another out in the study file",
            )


def _trained_with(config: RunConfig) -> dict[str, Any]:
    """The settings of a run in `tuning/`, for records of older versions, which have none; empty if it is gone."""
    try:
        record = RunDirectory(config.path).read_record()
    except FileError:
        return {}
    return {"model": record.model, **record.hyperparameters}


_AGAIN = f"delete this file and {TUNING}/ beside it to choose the learning rates again"


def _read(study: Study) -> dict[str, dict[str, Any]]:
    path = study.record_path
    if not path.is_file():
        return {}
    try:
        content = read_json_object(path)
    except FileError as error:
        raise _unreadable(study, "", f"a study's record, {FORMAT}", str(error)) from error
    kind, version, tuning = (content.get(name) for name in ("format", "version", "tuning"))
    if kind != FORMAT or type(version) is not int or version > VERSION:
        expected = f"a study's record, {FORMAT} of at most version {VERSION}"
        raise _unreadable(study, "", expected, f"{kind} version {version}")
    if not isinstance(tuning, dict):
        raise _unreadable(study, "tuning", "choices by method", tuning)
    for method, entry in tuning.items():
        if not _is_choice(entry):
            expected = "a chosen learning rate and its candidates with their scores"
            raise _unreadable(study, f"tuning.{method}", expected, entry)
    return tuning


def _unreadable(study: Study, key: str, expected: str, found: object) -> StudyFileError:
    hint = f"delete this file to choose the learning rates again from the runs in {TUNING}/"
    return StudyFileError(study.record_path, key=key, expected=expected, found=found, hint=hint)


def _is_choice(entry: Any) -> bool:
    try:
        candidates = entry["candidates"]
        return (
            entry["learning_rate"] in [one["learning_rate"] for one in candidates]
            and all(_is_number(one["learning_rate"]) and one["learning_rate"] > 0 for one in candidates)
            and all(score is None or _is_number(score) for one in candidates for score in one["scores"].values())
            and all(isinstance(settings, dict) for settings in entry.get("settings", {}).values())
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
