"""Pictures in the page: small, and with all that the picture shows."""

import xml.etree.ElementTree as xml
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from msplora_analysis.report.lean_svg import lean_svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def picture() -> bytes:
    """A line, an image, a hatch, a clip path, formulas and awkward names."""
    figure = Figure(figsize=(3, 3))
    ax = figure.subplots()
    ax.plot(np.linspace(0, 1, 50), np.sin(np.linspace(0, 9, 50)), "o-", label='<b id="x">a="1" & \'b\'</b>')
    ax.bar([0.5], [1], hatch="//")
    ax.imshow(np.eye(3), extent=(0, 1, -1, 1))
    ax.set_title(r"$M_{\mathrm{eff}}$-1")
    ax.legend()
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def shapes(svg: bytes) -> list[str]:
    return [one.tag for one in xml.fromstring(svg).iter() if one.tag.removeprefix(SVG) in ("path", "use", "image")]


def test_a_picture_is_half_as_large_with_the_same_shapes_and_texts(picture: bytes) -> None:
    lean = lean_svg(picture)
    assert len(lean) < len(picture) / 2
    assert shapes(lean) == shapes(picture)
    before, after = ([one.text for one in xml.fromstring(svg).iter() if one.tag in (f"{SVG}text", f"{SVG}tspan")
                      and (one.text or "").strip()] for svg in (picture, lean))  # fmt: skip
    assert before == after
    assert '<b id="x">a="1" & \'b\'</b>' in after


def test_what_is_pointed_to_is_there(picture: bytes) -> None:
    tree = xml.fromstring(lean_svg(picture))
    ids = {one.get("id") for one in tree.iter()} - {None}
    targets = {value.split("#")[1].rstrip(")") for one in tree.iter() for name, value in one.attrib.items()
               if value.startswith("url(#") or (name == "href" and value.startswith("#"))}  # fmt: skip
    targets |= {part.split(")")[0] for one in tree.iter(f"{SVG}style") for part in (one.text or "").split("url(#")[1:]}
    assert targets == ids
    assert len(ids) > 3


def test_corners_are_where_they_were() -> None:
    before = (
        b'<svg><defs><style>*{}</style></defs><g id="a">\n'
        b'<path d="M 1.23456 -2 \nL -3.5 4.009 \nz\n" style="fill:red; x: 1"/>\n</g></svg>'
    )
    after = b"<svg><defs><style>*{}.a0{fill:red;x:1}</style></defs><path d='M1.23-2-3.5 4z' class='a0'/></svg>"
    assert lean_svg(before) == after
