"""JSON from untrusted files: one object, or one object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msplora_core.errors import FileError
from msplora_core.storage.folder import read_file

LARGEST_FILE = 2**25
"""Bytes. The trainer_state.json of a long training has a few million."""
LARGEST_LOG = 2**27
"""Bytes. Half a million lines of a Trainer's log."""
LONGEST_NAME = 500


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        FileError: if the file is missing, too large, not UTF-8, not JSON (NaN, infinity and integers of more
            than 64 bits are refused), nested too deeply, repeats a name, or is not an object.
    """
    return _parse(path, "", read_file(path, "a JSON file", LARGEST_FILE))


class TornLineError(FileError):
    """The last line of a log has no line break: a kill cut it short."""


def read_json_lines(path: Path, errors: list[FileError]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the objects of a file with one JSON object a line, each with its place (`line 3`).

    Args:
        path: the file.
        errors: receives an error for each line that is not a JSON object, a `TornLineError` for a last line that
            was cut short; the other lines are returned.

    Raises:
        FileError: if the file is missing or too large.
    """
    lines = read_file(path, "a file of JSON lines", LARGEST_LOG).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            yield place, _parse(path, place, line)
        except FileError as error:
            torn = TornLineError(path, key=place, expected="a whole line", found="one that was cut short")
            errors.append(torn if number == len(lines) else error)


class RepeatedName(ValueError):
    """A JSON object repeats a name, and readers differ in which value they take."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} twice")
        self.name = name


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs, for `json.loads(object_pairs_hook=...)`.

    Raises:
        RepeatedName: if two have the same name.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RepeatedName(name)
            seen.add(name)
    return content


def plain_text(value: object) -> str:
    """Return a text from a file as one printable line of at most 200 characters; empty for any other value."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable())[:200]


def is_printable_name(value: object) -> bool:
    """Whether a value from a file can be a name: a printable text of 1 to `LONGEST_NAME` characters."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _parse(path: Path, place: str, text: bytes) -> dict[str, Any]:
    """The object in a file, or in a line of it that `place` names."""
    try:
        content = json.loads(
            text.decode("utf-8"),
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_within_64_bits,
            object_pairs_hook=unique_names,
        )
    except RepeatedName as error:
        key = f"{place}: {error.name}" if place else error.name
        raise FileError(path, key=key, expected="it once", found="it twice") from error
    except (ValueError, RecursionError) as error:
        if place:
            found = text.decode(errors="replace")
            raise FileError(path, key=place, expected="a JSON object", found=found) from error
        raise FileError(path, expected="JSON in UTF-8", found=str(error)) from error
    if not isinstance(content, dict):
        raise FileError(path, key=place, expected="a JSON object", found=content if place else type(content).__name__)
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is beyond float64")
    return value


def _within_64_bits(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{text[:40]} is beyond 64 bits")
    return int(text)
