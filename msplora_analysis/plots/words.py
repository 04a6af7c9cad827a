"""What is written above pictures."""

from __future__ import annotations

from collections.abc import Sequence

from msplora_analysis.comparison.difference import Comparison
from msplora_analysis.comparison.layers import LayerDivergence
from msplora_core.methods import title


def divergence_title(one: LayerDivergence, tasks: Sequence[str] = ()) -> str:
    """Return the title of the KL between the layers of one method."""
    scale = "" if one.scale == "layer" else f", {one.scale}"
    rule = f"leading {one.length} singular values"
    return heading(f"{title(one.method)}{scale}", one.model, one.modules, rule, tasks, counted(one.runs, "run"))


def comparison_title(one: Comparison, tasks: Sequence[str] = ()) -> str:
    """Return the title of a method minus its baseline."""
    scale = "" if one.scale == "layer" else f", {one.scale}"
    what = f"{title(one.method)} minus {title(one.baseline)}{scale}"
    return heading(what, one.model, one.modules, one.rule, tasks, counted(len(one.pairs), "pair") + " of runs")


def heading(
    what: str, model: str, modules: Sequence[str], rule: str = "", tasks: Sequence[str] = (), runs: str = ""
) -> str:
    """Return what is seen on one line, and of which modules, tasks and runs on the next.

    Example:
        >>> heading("LoRA r=8", "org/minilm", ["query", "value"], tasks=["mrpc"], runs="2 runs")
        'LoRA r=8 on minilm\\nquery, value; mrpc; 2 runs'
    """
    details = [listed(modules), rule, listed(tasks), runs]
    return f"{what} on {model.rsplit('/', 1)[-1]}\n" + "; ".join(filter(None, details))


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are.

    Example:
        >>> listed(["q", "k", "v", "o"]), listed(["q", "k", "v"])
        ('q, k and 2 more', 'q, k, v')
    """
    known = [name for name in names if name]
    return ", ".join(known) if len(known) < 4 else f"{', '.join(known[:2])} and {len(known) - 2} more"


def counted(count: int, word: str) -> str:
    """Return a number of things in words.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{count} {word}{'' if count == 1 else 's'}"
