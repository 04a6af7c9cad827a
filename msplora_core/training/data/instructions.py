"""Instructions with answers, from JSON files in the Alpaca layout or as chat messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msplora_core.errors import DataFileError
from msplora_core.training.data.examples import chosen

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ROLES = ("system", "user", "assistant")
_HELD_OUT, _MOST_HELD_OUT = 0.1, 2000


class Message(NamedTuple):
    """One message of a conversation.

    Args:
        role: `system`, `user` or `assistant`.
        content: the text.
        context: the field `input` of the Alpaca layout.
    """

    role: str
    content: str
    context: str = ""


@dataclass(frozen=True)
class Instructions:
    """Conversations that end with an answer of the assistant.

    Args:
        chats: the messages of each.
        empty: number of rows left out because their answer is empty.
    """

    chats: list[tuple[Message, ...]]
    empty: int = 0

    def __len__(self) -> int:
        return len(self.chats)

    def select(self, indices: ArrayLike) -> Instructions:
        """Return the conversations at these indices, in their order."""
        import numpy as np

        return Instructions([self.chats[i] for i in np.asarray(indices).tolist()], self.empty)

    def subset(self, count: int | None) -> Instructions:
        """Return a fixed random choice of conversations in their order; all if there are no more than `count`."""
        return self.select(chosen(len(self), count))


def read_instructions(path: Path) -> Instructions:
    """Read a list of rows with `instruction`, `input` (optional) and `output`, or with chat `messages`.

    Args:
        path: `.json` with a list of rows, or `.jsonl` with one row a line.

    Returns:
        The conversations. Rows whose answer is empty are left out and counted.

    Raises:
        DataFileError: with row and field, if the file is missing or malformed, or no row has an answer.
    """
    chats, empty = [], 0
    for place, row in _rows(path):
        chat = _chat(path, place, row)
        if chat[-1].content.strip():
            chats.append(chat)
        else:
            empty += 1
    if not chats:
        found = f"{empty:,} rows with an empty answer" if empty else "no row"
        raise DataFileError(path, expected="at least one row with an answer", found=found)
    return Instructions(chats, empty)


def split_instructions(path: Path) -> tuple[Instructions, Instructions]:
    """Read a file and hold out a fixed random tenth of it, at most 2,000 rows, for evaluation.

    Returns:
        The rows for training, and those for evaluation.

    Raises:
        DataFileError: as `read_instructions`, and if there is only one row.
    """
    import numpy as np

    all_rows = read_instructions(path)
    if len(all_rows) < 2:
        raise DataFileError(path, expected="at least two rows, since one is held out", found="one row")
    held_out = chosen(len(all_rows), min(_MOST_HELD_OUT, max(1, round(_HELD_OUT * len(all_rows)))))
    rest = np.setdiff1d(np.arange(len(all_rows)), held_out)
    return all_rows.select(rest), all_rows.select(held_out)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row with its place."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataFileError(path, expected="a file of instructions", found=error.strerror or error) from error
    except UnicodeDecodeError as error:
        raise DataFileError(path, expected="UTF-8 text", found=f"byte {error.start} is not") from None
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", _parsed(path, f"line {number}", line)
        return
    rows = _parsed(path, "", text)
    if not isinstance(rows, list):
        raise DataFileError(
            path, expected="a list of rows", found=_kind(rows), hint="for one row a line, name the file .jsonl"
        )
    yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))


def _parsed(path: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = place or f"line {error.lineno}"
        raise DataFileError(path, key=where, expected="JSON", found=f"{error.msg} at column {error.colno}") from None
    except RecursionError:
        raise DataFileError(path, key=place, expected="JSON", found="brackets nested too deeply") from None


def _chat(path: Path, place: str, row: Any) -> tuple[Message, ...]:
    if not isinstance(row, dict):
        raise DataFileError(path, key=place, expected="an object", found=_kind(row))
    if not {"instruction", "messages"} & set(row):
        found = f"the fields {', '.join(row)}" if row else "no field"
        raise DataFileError(path, key=place, expected="instruction and output, or messages", found=found)
    if "messages" not in row:
        instruction, answer = (_text(path, f"{place}: {name}", row.get(name)) for name in ("instruction", "output"))
        context = "" if row.get("input") is None else _text(path, f"{place}: input", row["input"])
        return Message("user", instruction, context), Message("assistant", answer)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise DataFileError(path, key=f"{place}: messages", expected="a list of messages", found=_kind(messages))
    chat = []
    for number, message in enumerate(messages, 1):
        where = f"{place}: messages: {number}"
        if not isinstance(message, dict):
            raise DataFileError(path, key=where, expected="an object with role and content", found=_kind(message))
        role = message.get("role")
        if role not in ROLES:
            raise DataFileError(path, key=f"{where}: role", expected=", ".join(ROLES), found=_shown(role))
        chat.append(Message(role, _text(path, f"{where}: content", message.get("content"))))
    if chat[-1].role != "assistant" or len(chat) < 2:
        expected = "messages that end with an answer of the assistant"
        raise DataFileError(path, key=f"{place}: messages", expected=expected, found=f"the last by {chat[-1].role}")
    return tuple(chat)


def _text(path: Path, place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataFileError(path, key=place, expected="a text", found=_shown(value))
    return value


def _shown(value: Any) -> Any:
    return "none" if value is None else value


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), repr(value)[:50])
