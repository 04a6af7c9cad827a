"""Choose the learning rate of each method by the dev metric, on tasks and seeds that the study does not use."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from msplora_core.errors import FileError, StudyFileError
from msplora_core.storage.atomic import write_atomically
from msplora_core.storage.json_file import read_json_object
from msplora_core.study.definition import Study
from msplora_core.study.entries import failure_of, last_score, look
from msplora_core.training.run_config import RunConfig

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
        StudyFileError: if the record cannot be read or is of a newer version.
    """
    recorded = _read(study)
    rates: dict[str, float] = {}
    tuned = dict(recorded)
    for method, candidates in study.tuning_runs().items():
        entry = recorded.get(method)
        if entry is not None and _covers(entry, candidates):
            rates[method] = entry["learning_rate"]
            continue
        found = [_candidate(rate, configs) for rate, configs in candidates.items()]
        tried = [one for one in found if one is not None]
        best = max(tried, key=lambda one: (one.mean, -one.learning_rate), default=None)
        if best is None or len(tried) < len(found) or best.mean == -math.inf:
            continue
        rates[method] = best.learning_rate
        tuned[method] = {"learning_rate": best.learning_rate, "candidates": [asdict(one) for one in tried]}
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


def _read(study: Study) -> dict[str, dict[str, Any]]:
    path = study.record_path
    if not path.is_file():
        return {}
    try:
        content = read_json_object(path)
        if content["format"] != FORMAT or content["version"] > VERSION:
            raise ValueError(f"{content['format']} version {content['version']}")
        return dict(content["tuning"])
    except (FileError, ValueError, KeyError, TypeError) as error:
        raise StudyFileError(
            path,
            expected=f"a study's record, {FORMAT} of at most version {VERSION}",
            found=str(error),
            hint="delete this file to choose the learning rates again from the runs in tuning/",
        ) from error
