"""Values of TOML and JSON, converted to the types of dataclass fields."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a text",
          dict: "a table", list: "a list", Any: "a value", NoneType: "nothing"}  # fmt: skip


def convert(value: Any, kind: Any) -> Any:
    """Return a value of TOML or JSON in a field's type: lists become tuples.

    Args:
        value: as `tomllib` or `json` read it.
        kind: the type, as annotated.

    Raises:
        TypeError: if the value is of another type, or an empty list.

    Example:
        >>> convert([8, 4, 2], tuple[int, int, int]), convert(16, float | None)
        ((8, 4, 2), 16)
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or (origin is Literal and value in inner):
        return value
    if origin in (Union, UnionType):
        for one in inner:
            with suppress(TypeError):
                return convert(value, one)
    elif (origin or kind) is list and isinstance(value, list):
        return [convert(item, inner[0]) for item in value] if inner else value
    elif kind is dict and isinstance(value, dict):
        return value
    elif origin is tuple and isinstance(value, list) and value:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) == len(value):
            return tuple(convert(item, one) for item, one in zip(value, kinds, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {convert(key, inner[0]): convert(item, inner[1]) for key, item in value.items()}
    elif (kind is float and type(value) is int) or type(value) is kind:
        return value
    raise TypeError(f"{value!r} is not {described(kind)}")


def alternatives(value: Any, kind: Any) -> list[Any]:
    """Return the values of a key: one, or each item of a list.

    A list that is itself a value of the type, such as `ranks = [8, 4, 2]`, is one value.

    Raises:
        TypeError: if neither the value nor each item of it is of the type.

    Example:
        >>> alternatives([2, 8], int), alternatives([8, 4, 2], tuple[int, int, int])
        ([2, 8], [(8, 4, 2)])
    """
    with suppress(TypeError):
        return [convert(value, kind)]
    if not isinstance(value, list) or not value:
        raise TypeError(f"{value!r} is not {described(kind)}")
    return [convert(item, kind) for item in value]


def described(kind: Any) -> str:
    """Return a type in words, for messages.

    Example:
        >>> described(tuple[int, int, int] | None), described(list[str])
        ('a list of 3 whole numbers', 'a list of texts')
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(described(one) for one in inner if one is not NoneType))
    if origin in (tuple, list):
        count = "" if len(inner) == 1 or inner[-1] is Ellipsis else f"{len(inner)} "
        item = described(inner[0])
        return f"a list of {count}{item.removeprefix('a ')}s" if inner[0] in _WORDS else f"a list, each {item}"
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is dict and inner[1] is not Any:
        return f"a table, each value {described(inner[1])}"
    return _WORDS.get(origin or kind, "a value")
