"""Own code instead of a library's: each such choice compared with the library."""

from __future__ import annotations

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
    """R of one factor, by Cholesky."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from msplora_core.linalg.triangular import triangular_factor

    M = made.factors(LLAMA._replace(matrices=1))[0].astype(np.float64)

    def numpy() -> None:
        with threadpool_limits(1, user_api="blas"):
            np.linalg.qr(M, mode="r")

    found = bench.medians({"ours": lambda: triangular_factor(M), "numpy": numpy})
    work = f"triangular factor, {LLAMA.width} × {LLAMA.rank}"
    return [Line(work, "numpy.linalg.qr, one thread", found["ours"], found["numpy"], _PAYS)]


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
