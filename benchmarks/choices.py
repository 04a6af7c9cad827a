"""Own code instead of a library's: each such choice compared with the library."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

from benchmarks import made
from benchmarks.sizes import LLAMA
from benchmarks.target import Line, Target
from benchmarks.timing import Bench

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAYS = Target("faster", 1.2)


def triangular(bench: Bench) -> list[Line]:
    """R of one ill-conditioned factor, and of one with dependent columns."""
    import numpy as np

    from msplora_core.linalg.triangular import triangular_factor

    B, _ = made.ill_conditioned(LLAMA._replace(matrices=1))
    dependent = B.copy()
    dependent[:, :, 1] = dependent[:, :, 0]
    lines = []
    for name, M in (("ill-conditioned", B), ("with two equal columns", dependent)):
        calls: dict[str, Callable[[], object]] = {
            "ours": partial(triangular_factor, M),
            "numpy": partial(np.linalg.qr, M, mode="r"),
        }
        found = bench.medians(calls)
        work = f"triangular factor, {LLAMA.width} × {LLAMA.rank}, {name}"
        lines.append(Line(work, "numpy.linalg.qr", found["ours"], found["numpy"], _PAYS))
    return lines


def pdf(bench: Bench) -> list[Line]:
    """Fig. 3 as PDF: fonts embedded without their tables for shaping."""
    from msplora_analysis import analyse, draw_figures
    from msplora_analysis.report.pictures import saved

    analysis = analyse(made.study(bench.folder / "study", tasks=1, epochs=8))
    (_, figure), (_, other) = next(iter(draw_figures(analysis))), next(iter(draw_figures(analysis)))
    found = bench.medians({"ours": lambda: saved(figure, "pdf"), "plain": lambda: _plain(other)})
    return [Line("Fig. 3 as PDF", "fonts as matplotlib embeds them", found["ours"], found["plain"], _PAYS)]


def _plain(figure: Figure) -> bytes:
    import matplotlib

    buffer = BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(buffer, format="pdf")
    return buffer.getvalue()
