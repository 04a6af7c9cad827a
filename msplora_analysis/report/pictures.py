"""Figures as the bytes of files. The same data give the same bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

from msplora_analysis.loading.parallel import while_made
from msplora_analysis.report.lean_svg import lean_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 300
_DPI_IN_PAGE = 120
"""Resolution of matrix cells, which an SVG holds as an image."""
_FONTS = ["DejaVu Sans", "Verdana", "sans-serif"]
"""Fonts for text in an SVG, which the browser sets: the font of the layout, one of the same width, or any."""
_METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
_UNUSED = {"GDEF", "GPOS", "GSUB", "kern", "post"}
"""Tables of fonts that a PDF does not use: it places glyphs itself, by number;"""
_CHARACTERS = {"cmap", "OS/2"}
"""and matplotlib before 3.11 looks these numbers up."""
_DRAWING = ("matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "fontTools.subset")
_Work = tuple[str, "Figure", tuple[str, ...]]


def load_drawing() -> None:
    """Import what draws and saves pictures, seaborn without scipy: for a process whose seaborn draws nothing else.

    Seaborn needs scipy for densities and dendrograms alone, and scipy takes 20 times as long to load as seaborn itself.
    """
    for name in _DRAWING:
        import_module(name)
    modules: dict[str, Any] = sys.modules
    modules.setdefault("scipy", None)  # lets an import of it fail
    try:
        import_module("seaborn")
    finally:
        if modules["scipy"] is None:
            del modules["scipy"]


def pictures(
    figures: Iterable[tuple[str, Figure]], n_jobs: int = 1, kinds: Sequence[str] = ("png", "pdf")
) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the bytes of each figure in each format.

    Args:
        figures: names and figures: `draw_figures(analysis)`.
        n_jobs: how many processes (see `load_spectra`). They save while further figures are drawn; to reach them,
            figures are pickled.
        kinds: one or more of png, pdf and svg.
    """
    vector = tuple(kind for kind in kinds if kind != "png")  # together: formulas are laid out once for both
    groups = [group for group in (("png",) if "png" in kinds else (), vector) if group]
    work = ((name, figure, group) for name, figure in figures for group in groups)
    for found in while_made(_in_kinds, work, n_jobs):
        yield from found


def _in_kinds(work: _Work) -> list[tuple[str, bytes]]:
    name, figure, kinds = work
    return [(f"{name}.{kind}", saved(figure, kind)) for kind in kinds]


def saved(figure: Figure, kind: str) -> bytes:
    """Return a picture as bytes. They hold no date, so the same data give the same bytes.

    Text in a PDF or SVG stays text. The figure is not changed.
    """
    import matplotlib

    buffer = BytesIO()
    metadata: dict[str, Any] = {**_METADATA.get(kind, {}), **({"Title": figure.get_label()} if kind == "svg" else {})}
    style: dict[Any, Any] = {"pdf.fonttype": 42}
    if kind == "svg":
        style |= {"svg.fonttype": "none", "svg.hashsalt": "msplora", "font.sans-serif": _FONTS}
    with matplotlib.rc_context(style), _formulas_laid_out_once(), _lean_fonts() if kind == "pdf" else nullcontext():
        figure.savefig(buffer, format=kind, dpi=_DPI_IN_PAGE if kind == "svg" else DPI, metadata=metadata)
    return lean_svg(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


@contextmanager
def _formulas_laid_out_once() -> Iterator[None]:
    """Let PDF and SVG share the layout of formulas; by default each file computes it again, SVG even at two sizes."""
    from matplotlib import text, textpath
    from matplotlib.backends.backend_svg import RendererSVG
    from matplotlib.cbook import _setattr_cm

    usual: Any = RendererSVG.get_text_width_height_descent

    def size(self: Any, s: Any, prop: Any, ismath: Any) -> Any:
        return (
            self._text2path.mathtext_parser.parse(s, 72, prop)[:3] if ismath is True else usual(self, s, prop, ismath)
        )

    with (
        _setattr_cm(text, TextToPath=lambda: textpath.text_to_path),
        _setattr_cm(RendererSVG, get_text_width_height_descent=size),
    ):
        yield


@contextmanager
def _lean_fonts() -> Iterator[None]:
    """Embed fonts without the tables that a PDF does not use: they take half of its time."""
    import matplotlib
    from fontTools import subset

    unused = _UNUSED | _CHARACTERS if matplotlib.__version_info__ >= (3, 11) else _UNUSED
    load = subset.load_font

    def load_lean(*arguments: Any, **options: Any) -> Any:
        font = load(*arguments, **options)
        for table in unused & {*font.keys()}:
            del font[table]  # before any is read: an option of the subsetter would drop them after
        return font

    subset.load_font = load_lean
    try:
        yield
    finally:
        subset.load_font = load
