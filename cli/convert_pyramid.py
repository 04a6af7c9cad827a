"""`msplora-analyze convert --to msplora`: the pyramid closest to an adapter, and what sharing has to do with it."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from msplora_cli.console import data, messages, print_json, say
from msplora_cli.options import groups_option, three_ranks
from msplora_core.conversion.sharing_fit import NULL_DRAWS, PyramidConversion, SharingFit, convert_to_pyramid
from msplora_core.errors import one_line
from msplora_core.wording import listed

if TYPE_CHECKING:
    from rich.console import Console

LEAST_GAIN = 0.05
"""Below this share of what random directions leave unexplained, layers are said to share nothing."""
_SPREADS = 2.0
"""Likewise below this many spreads of the null, which is wide for small matrices."""
_ROUNDING = 1e-9

_SECONDS_BETWEEN_LINES = 30.0


def as_pyramid(source: str, out: Path, ranks: str, groups: str | None, alpha: float | None, *, as_json: bool) -> None:
    """Convert, and print the shares explained beside those of random directions and of plain LoRA."""
    with _Progress(messages()) as progress:
        conversion = convert_to_pyramid(
            source,
            out,
            ranks=three_ranks(ranks),
            groups=None if groups is None else groups_option(groups),
            alpha=alpha,
            progress=progress,
        )
    if as_json:
        print_json(_as_json(conversion))
    else:
        _print(conversion)
    for note in conversion.notes:
        say(f"note: {one_line(note)}")
    say(f"Wrote {one_line(str(out))}")


def _print(conversion: PyramidConversion) -> None:
    from rich.table import Table

    table = Table(
        *("module", "layers", "pyramid", "random", "layer rank", "own ranks"),
        title="Share of the squared norm of the weight updates",
    )
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for fit in conversion.fits:
        shares = (fit.explained, fit.null, fit.layer_rank, fit.own_ranks)
        shown = ("–" if math.isnan(share) else f"{share:.3f}" for share in shares)
        table.add_row(fit.module, str(fit.layers), *shown)
    data().print(table)
    lines = [
        f"random: a pyramid of the same ranks for updates with the same singular values and random directions, mean of "
        f"{NULL_DRAWS} draws. layer rank: the layer scale alone. own ranks: the same number of parameters, spent on "
        "ranks of the layers' own.",
        *map(verdict, conversion.fits),
        f"{conversion.parameters:,} parameters, before {conversion.parameters_before:,}. A good fit of weights is no "
        "good score: evaluate the result on its task.",
        "To load it with PEFT: import msplora_core.adapter first.",
    ]
    for line in lines:
        data().print(line, soft_wrap=True)


def verdict(fit: SharingFit) -> str:
    """Return what the fit of one module type says about sharing, in a sentence.

    Example:
        >>> verdict(SharingFit("query", 12, (768, 768), 0.8401, 0.8388, 0.813, 0.949, 61, True))
        'query: nothing is shared: the pyramid explains 0.840, and 0.839 where directions are random. Own ranks at \
the same cost explain more: 0.949.'
    """
    text = f"{fit.module}: {_sharing(fit)}"
    if fit.own_ranks > fit.explained + _ROUNDING:
        text += f" Own ranks at the same cost explain more: {fit.own_ranks:.3f}."
    if fit.zero:
        text += f" Zero update: {listed(fit.zero, 1)}."
    if not fit.converged:
        text += f" The fit was still improving after {fit.sweeps} sweeps."
    return one_line(text)


def _sharing(fit: SharingFit) -> str:
    if math.isnan(fit.explained):
        return "all updates are zero."
    if fit.layers == 1:
        return "one layer, which has nothing to share with."
    if fit.layer_rank > 1 - 1e-6:
        return "the layer rank alone holds the updates; there is nothing left to share."
    if math.isnan(fit.null):
        return "no rank at a shared scale."
    if math.isnan(fit.gain):
        return "these ranks hold random directions, too, and so say nothing about sharing."
    if fit.gain < LEAST_GAIN or fit.explained - fit.null <= _SPREADS * fit.null_spread:
        return (
            f"nothing is shared: the pyramid explains {fit.explained:.3f}, and {fit.null:.3f} where directions are "
            "random."
        )
    return f"sharing explains {fit.gain:.0%} of what it leaves unexplained where directions are random."


def _as_json(conversion: PyramidConversion) -> dict[str, object]:
    return {
        "modules": [asdict(fit) | {"gain": fit.gain} for fit in conversion.fits],
        "parameters": conversion.parameters,
        "parameters_before": conversion.parameters_before,
        "null_draws": NULL_DRAWS,
    }


class _Progress:
    """The fit that runs: one line that changes on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last = time.monotonic()
        self.status = console.status("") if console.is_terminal else None

    def __enter__(self) -> _Progress:
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def __call__(self, module: str, what: str, sweep: int, explained: float) -> None:
        line = one_line(f"{module}: {what}, sweep {sweep}, {explained:.4f} explained")
        if self.status:
            from rich.text import Text

            self.status.update(Text(line))  # a str would be taken as markup
        elif time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.console.print(line, soft_wrap=True)
