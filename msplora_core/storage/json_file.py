"""JSON files from strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msplora_core.errors import AdapterFileError
from msplora_core.storage.folder import check_file

LARGEST_FILE = 2**25
"""Bytes. A trainer's state of a long training has a few million."""


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        AdapterFileError: if the file is missing, too large, no UTF-8, no JSON (NaN and infinity are none),
            names something twice, or holds no object.
    """
    check_file(path, "a JSON file")
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise AdapterFileError(path, expected=f"at most {LARGEST_FILE} bytes", found=size)
        text = path.read_bytes()
    except OSError as error:
        raise AdapterFileError(path, expected="a JSON file", found=error.strerror or str(error)) from error
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=unique_names)
    except RepeatedName as error:
        raise AdapterFileError(path, key=error.name, expected="it once", found="it twice") from error
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(path, expected="JSON in UTF-8", found=str(error)) from error
    if not isinstance(content, dict):
        raise AdapterFileError(path, expected="a JSON object", found=type(content).__name__)
    return content


class RepeatedName(ValueError):
    """A JSON object names something twice, and readers differ in which they take."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} twice")
        self.name = name


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `json.loads(object_pairs_hook=...)`.

    Raises:
        RepeatedName: if two have one name.
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
    """A text from a file as one printable line of at most 200 characters; empty for what is no text."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable())[:200]


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
