"""Pictures as a page shows them without JavaScript: as the source of an image, with their titles."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import quote

_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)


class StaticPicture(NamedTuple):
    """A picture in a page.

    Args:
        title: that of the figure; where it has none, the name of its file.
        source: of an image, in which no script runs. Quotation marks and & are encoded.
    """

    title: str
    source: str


def fitting(files: Iterable[tuple[str, bytes]], most: int) -> Iterator[tuple[str, bytes]]:
    """Yield the first files, of at most so many bytes together."""
    for name, data in files:
        most -= len(data)
        if most < 0:
            return
        yield name, data


def static_pictures(files: Iterable[tuple[str, bytes]]) -> Iterator[StaticPicture]:
    """Yield the pictures of SVG files.

    Args:
        files: the name and content of each.

    Example:
        >>> next(static_pictures([("shares.svg", b"<svg><title>What layers share</title></svg>")]))
        StaticPicture(title='What layers share', source='data:image/svg+xml,<svg></svg>')
    """
    for name, data in files:
        text = data.decode(errors="replace")
        found = _TITLE.search(text)
        title = html.unescape(found[1]) if found else name.removesuffix(".svg").replace("-", " ")
        yield StaticPicture(
            title, "data:image/svg+xml," + quote(_TITLE.sub("", text, count=1), safe=" /:;,=()[]{}<>'!*@$+?~")
        )
