"""Pictures of matplotlib as small SVG: a third of the size, and the same to look at."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

_UNREAD = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE[^>]*>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_ATTRIBUTE = re.compile(r'\s+([\w:-]+)="([^"]*)"')
_EXACT = ("viewBox", "width", "height", "href", "version")
_DIGITS = re.compile(r"(-?\d+\.\d\d)\d+")
_ZEROS = re.compile(r"(\.\d*?)0+(?!\d)")
_REFERENCE = re.compile(r"""(url\(#|href="#)([\w.-]+)""")


def lean_svg(svg: bytes) -> bytes:
    """Return an SVG without what only editors read, each style written once, lengths to a hundredth of a point.

    Attributes are quoted by apostrophes, which need no escape inside an attribute of HTML.

    Args:
        svg: as matplotlib writes it, with text as text.
    """
    text = re.sub(r">\s+<", "><", _UNREAD.sub("", svg.decode())).strip()
    lean = _Tags({name for _, name in _REFERENCE.findall(text)})
    text = _TAG.sub(lambda found: lean.tag(found[0]), text)
    rules = "".join(f".{name}{{{style}}}" for style, name in lean.classes.items())
    return text.replace("</style>", f"{rules}</style>", 1).encode()


class _Tags:
    """Rewrites tags, in their order.

    Args:
        referenced: the ids that something in the picture points to.
    """

    def __init__(self, referenced: set[str]) -> None:
        self.classes: dict[str, str] = {}
        self._referenced = referenced
        self._ids: dict[str, str] = {}
        self._open_groups = list[bool]()
        self._names = (f"a{number}" for number in count())

    def tag(self, tag: str) -> str:
        """The tag as it is written; empty for a group that says nothing."""
        if tag == "</g>":
            return tag if self._open_groups.pop() else ""
        tag = _REFERENCE.sub(lambda found: found[1] + self._id(found[2]), tag)
        tag = _ATTRIBUTE.sub(self._attribute, tag)
        if tag.startswith("<g") and not tag.endswith("/>"):
            self._open_groups.append(tag != "<g>")
            return "" if tag == "<g>" else tag
        return tag

    def _attribute(self, found: re.Match[str]) -> str:
        name, value = found[1].removeprefix("xlink:"), found[2].replace("'", "&apos;")
        if name == "id":
            return f" id='{self._id(value)}'" if value in self._referenced else ""
        if name == "style":
            return f" class='{self._class(found[2])}'"
        if name == "xmlns:xlink" or (name == "transform" and value.startswith("rotate(-0 ")):
            return ""
        if name == "d":
            value = _path(value)
        elif name not in _EXACT and "matrix" not in value and "scale" not in value:
            value = _short(value)
        return f" {name}='{value}'"

    def _id(self, name: str) -> str:
        return self._ids.setdefault(name, f"i{len(self._ids)}")

    def _class(self, style: str) -> str:
        style = style.replace("; ", ";").replace(": ", ":").replace(", ", ",")
        if style not in self.classes:
            self.classes[style] = next(self._names)
        return self.classes[style]


def _path(value: str) -> str:
    """A path without blanks that no number needs; after M and L the next pair is a line as well."""
    value = re.sub(r"\s+", " ", _short(value)).strip()
    value = re.sub(r" ?([A-Za-z]) ?", r"\1", value).replace(" -", "-")
    return re.sub(r"(?<=\d)L(-?)", lambda found: found[1] or " ", value) if not re.search("[CQS]", value) else value


def _short(value: str) -> str:
    return _ZEROS.sub(_without_zeros, _DIGITS.sub(r"\1", value))


def _without_zeros(found: re.Match[str]) -> Any:
    return "" if found[1] == "." else found[1]
