"""Read and check a study file in TOML; errors name the line."""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

from msplora_core.errors import FileError, ParameterError, StudyFileError, nearest
from msplora_core.method_list import METHODS, check_setting
from msplora_core.storage.folder import read_file
from msplora_core.storage.json_file import LARGEST_FILE
from msplora_core.study.definition import Study, Tune
from msplora_core.training.run_config import TYPES
from msplora_core.typed_values import alternatives, convert, described

_TOP: dict[str, Any] = {"out": str, "tasks": list[str], "seeds": list[int], "data_dir": str}
_TABLES = ("settings", "methods", "tune")
_TUNE: dict[str, Any] = {"learning_rate": list[float], "tasks": list[str], "seeds": list[int]}
_OWN = ("task", "seed", "out", "data_dir")  # fields of a run that the study sets
_METHOD = {name: kind for name, kind in TYPES.items() if name not in _OWN}
_SETTINGS = {**{name: kind for name, kind in _METHOD.items() if name != "method"}, "preset": str}


def read_study(path: str | Path, *, out: Path | None = None, data_dir: Path | None = None) -> Study:
    """Read a study file. Paths in it are relative to its folder.

    Args:
        path: the TOML file.
        out: the study's folder, instead of the file's `out`.
        data_dir: the folder with the task data, instead of the file's `data_dir`.

    Raises:
        StudyFileError: with the line, for invalid TOML, an unknown key, a value of a wrong type or one that a run
            cannot have, an empty list, two methods with the same run directory, or tuning on tasks and seeds of the
            study.
    """
    return _Reader(Path(path)).study(out, data_dir)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.parent
        self.tables: list[int] = []  # index of the table [[methods]] of each method
        try:
            self.text = read_file(path, "a study file", LARGEST_FILE).decode("utf-8")
            self.content = tomllib.loads(self.text)
        except FileError as error:
            raise StudyFileError(path, expected=error.expected, found=error.found, hint=error.hint) from error
        except ValueError as error:  # of the encoding, or of TOML
            raise StudyFileError(path, expected="TOML in UTF-8", found=str(error)) from error

    def study(self, out: Path | None, data_dir: Path | None) -> Study:
        self._known("", self.content, (*_TOP, *_TABLES))
        top = self._values("", {name: self.content[name] for name in _TOP if name in self.content}, _TOP)
        for name in ("tasks", "seeds"):
            if name not in top:
                raise StudyFileError(self.path, key=name, expected="a list", found="none")
        settings = self._values("settings", self._table("settings"), _SETTINGS)
        given = self.folder / top["data_dir"] if "data_dir" in top else None
        study = Study(
            path=self.path,
            out=out or self.folder / top.get("out", "runs"),
            tasks=tuple(top["tasks"]),
            seeds=tuple(top["seeds"]),
            methods=tuple(self._placed({**settings, **variant}) for variant in self._variants()),
            data_dir=data_dir or given,
            tune=self._tune(),
        )
        self._check(study)
        return study

    def _variants(self) -> list[dict[str, Any]]:
        """The settings of each method; a list of values gives one method for each."""
        tables = self.content.get("methods", [])
        if not (isinstance(tables, list) and tables and all(isinstance(table, dict) for table in tables)):
            raise self._wrong("", "methods", "at least one table [[methods]]", tables)
        found = []
        for place, table in enumerate(tables):
            self._known("methods", table, _METHOD, place)
            values = []
            for name, value in table.items():
                try:
                    values.append([(name, one) for one in alternatives(value, _METHOD[name])])
                except TypeError:
                    expected = "at least one value" if value == [] else f"{described(_METHOD[name])}, or a list of such"
                    raise self._wrong("methods", name, expected, value, place) from None
            self._belonging(table, place)
            found += [dict(chosen) for chosen in product(*values)]
            self.tables += [place] * (len(found) - len(self.tables))
        return found

    def _belonging(self, table: dict[str, Any], place: int) -> None:
        """Refuse a setting that no method of the table has."""
        methods = alternatives(table.get("method", "msplora"), str)
        if "plan" in table or not set(methods) <= set(METHODS):  # a plan holds its method; others are refused later
            return
        for name in table:
            try:
                check_setting(name, methods)
            except ParameterError as error:
                raise self._wrong("methods", name, error.expected, error.found, place) from error

    def _tune(self) -> Tune | None:
        if "tune" not in self.content:
            return None
        values = self._values("tune", self._table("tune"), _TUNE)
        for name in _TUNE:
            if name not in values:
                raise self._wrong("tune", name, "a list", "none")
        if not all(0 < rate < math.inf for rate in values["learning_rate"]):
            raise self._wrong("tune", "learning_rate", "positive numbers", [*values["learning_rate"]])
        for table in ("settings", "methods"):
            tables = self.content.get(table, [])
            for place, one in enumerate(tables if isinstance(tables, list) else [tables]):
                if "learning_rate" in one:
                    expected = "none, since [tune] chooses it"
                    raise self._wrong(table, "learning_rate", expected, one["learning_rate"], place)
        return Tune(*(tuple(values[name]) for name in _TUNE))

    def _check(self, study: Study) -> None:
        """Construct every run once, so that errors name the line of an invalid value."""
        for table, pairs in (("", study.pairs()), ("tune", study.tune_pairs())):
            for (task, seed), (place, method) in product(pairs, enumerate(study.methods)):
                try:
                    study.config(method, task, seed)
                except ParameterError as error:
                    name = {"task": "tasks", "seed": "seeds"}.get(error.name, error.name)
                    if name in _TOP:
                        raise self._wrong(table, name, error.expected, error.found, hint=error.hint) from error
                    line = self._line("methods", name, self.tables[place]) or self._line("settings", name)
                    where = f"{name} (method {place + 1} of {len(study.methods)})"
                    raise StudyFileError(
                        self.path, key=_at(line, where), expected=error.expected, found=error.found, hint=error.hint
                    ) from error
        for name, count in Counter(study.config(*one).path.name for one in study.combinations()).items():
            if count > 1:
                raise StudyFileError(
                    self.path,
                    expected="one method or setting for each run directory",
                    found=f"{count} that mean {name}",
                    hint="runs are named after task, method with ranks, and seed; use another study for other settings",
                )
        both = sorted({study.named(*pair) for pair in study.pairs()} & {study.named(*p) for p in study.tune_pairs()})
        if both:
            raise StudyFileError(
                self.path,
                key=_at(self._line("tune", "seeds"), "tune"),
                expected="tasks and seeds that the study itself does not use",
                found=", ".join(both),
            )

    def _placed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Resolve paths relative to the study file: plans, configurations, and a model if there is such a folder."""
        for name in ("plan", "config"):
            if name in settings:
                settings = {**settings, name: self.folder / settings[name]}
        beside = self.folder / settings.get("model", "")
        return {**settings, "model": str(beside)} if "model" in settings and beside.is_dir() else settings

    def _table(self, name: str) -> dict[str, Any]:
        table = self.content.get(name, {})
        if not isinstance(table, dict):
            raise self._wrong("", name, f"a table [{name}]", table)
        return table

    def _values(self, table: str, values: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
        self._known(table, values, types)
        converted = {}
        for name, value in values.items():
            if value == []:
                raise self._wrong(table, name, "at least one value", value)
            try:
                converted[name] = convert(value, _as_tuple(types[name]))
            except TypeError:
                raise self._wrong(table, name, described(types[name]), value) from None
        return converted

    def _known(self, table: str, values: dict[str, Any], known: Any, place: int = 0) -> None:
        for name in values:
            if name not in known:
                hint = nearest(name, known, f"known are {', '.join(known)}")
                if not table and name in _SETTINGS:
                    hint = "it belongs below [settings] or [[methods]]"
                raise self._wrong(table, name, "a known key", name, place, hint)

    def _wrong(
        self, table: str, name: str, expected: str, found: object, place: int = 0, hint: str = ""
    ) -> StudyFileError:
        where = f"{table}.{name}" if table else name
        return StudyFileError(
            self.path, key=_at(self._line(table, name, place), where), expected=expected, found=found, hint=hint
        )

    def _line(self, table: str, name: str, place: int = 0) -> int | None:
        """The line of a key, which tomllib does not tell; None for keys in inline tables."""
        current, seen = "", Counter({"": 1})
        for number, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[\[?\s*([A-Za-z_][\w.-]*)\s*\]", line)
            if header:
                current = header[1]
                seen[current] += 1
            if current == table and seen[current] == place + 1 and re.match(rf'\s*"?{re.escape(name)}"?\s*=', line):
                return number
            if header and not table and current == name:
                return number
        return None


def _as_tuple(kind: Any) -> Any:
    return {list[str]: tuple[str, ...], list[int]: tuple[int, ...], list[float]: tuple[float, ...]}.get(kind, kind)


def _at(line: int | None, key: str) -> str:
    return f"line {line}: {key}" if line else key
