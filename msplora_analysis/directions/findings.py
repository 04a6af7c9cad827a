"""Overlaps of layers and of adapters in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from msplora_analysis.directions.adapter_pairs import AdapterPair
from msplora_analysis.directions.redundancy import NEGLIGIBLE

if TYPE_CHECKING:
    from pandas import DataFrame, Series

_DEVIATIONS = 3.0
"""A number within this many standard deviations of its null is attributed to chance."""
_SLIGHT = 0.01
"""A cosine below this is no direction in common, even if it is significant."""
_KEYS = ["model", "method", "scale", "module"]


def by_module(table: DataFrame, by: Sequence[str] = ()) -> DataFrame:
    """Average the runs of each method: a row a model, method, scale, module type, and side if there are sides.

    Standard deviations of the null model become those of the mean over the runs. Largest cosines of several runs are
    averaged without their signs, which would cancel.

    Args:
        table: `Overlap.sharing` or `Overlap.subspaces`.
        by: columns to group by besides these: `task`, for example.
    """
    keys = [*_KEYS, "stack", *(["side"] if "side" in table.columns else []), *by]
    apart = {"run", "task", "seed", "epoch", "step", "between", *keys}
    spreads = [name for name in table.columns if name.startswith("deviation_")]
    groups = table.groupby(keys, observed=True, sort=False)
    found, runs = groups[[name for name in table.columns if name not in apart]].mean(), groups["run"].nunique()
    found[spreads] = found[spreads].div(runs**0.5, axis=0)
    if "largest_cosine" in found:
        unsigned = table["largest_cosine"].abs().groupby([table[name] for name in keys], observed=True, sort=False)
        found["largest_cosine"] = found["largest_cosine"].where(runs == 1, unsigned.mean())
    return found.assign(runs=runs).reset_index()


def findings(sharing: DataFrame, subspaces: DataFrame) -> Iterator[str]:
    """Yield a sentence for each method, module type and scale: the shared energy, and the overlap of subspaces.

    Args:
        sharing, subspaces: from an `Overlap`.
    """
    sides = dict(iter(by_module(subspaces).groupby(_KEYS, observed=True))) if len(subspaces) else {}
    rows = by_module(sharing)
    named = [name for name in ("model", "method", "module", "scale") if name == "module" or rows[name].nunique() > 1]
    for key, part in rows.groupby(_KEYS, observed=True, sort=False):
        row = part.iloc[0]
        parts = [_shared(row), *([_overlapping(sides[key])] if key in sides else [])]
        yield f"{' '.join(str(row[name]) for name in named)}: {'; '.join(parts)}."


def _shared(row: Series[Any]) -> str:
    if np.isnan(row["excess"]):
        return "at most one layer has a nonzero update"
    shared, null = (row[f"{kind}shared_by_all"] + row[f"{kind}shared_by_groups"] for kind in ("", "null_"))
    numbers = f"{shared:.4f} of the energy; layers that share nothing have {null:.4f} ± {row['deviation_own']:.4f}"
    if abs(row["excess"]) <= _DEVIATIONS * row["deviation_own"]:
        return f"the layers share nothing ({numbers}){_single_pairs(row)}"
    if abs(row["excess"]) < NEGLIGIBLE:
        return f"the layers share almost nothing ({numbers}){_single_pairs(row)}"
    if row["excess"] < 0:
        return f"the layers point in opposite directions ({numbers})"
    return f"the layers share {row['excess']:.3f} of their energy beyond chance ({numbers})"


def _single_pairs(row: Series[Any]) -> str:
    """Cosines beyond the bound of chance, which can cancel in the energy of all layers."""
    largest, bound = abs(row["largest_cosine"]), row["cosine_bound"]
    if not largest > max(bound, _SLIGHT):
        return ""
    if row["runs"] == 1:
        return f", but two of them have a cosine of {row['largest_cosine']:+.3f} (random: at most {bound:.3f})"
    return f", but the largest cosine of a run is {largest:.3f} on average (random: at most {bound:.3f})"


def _overlapping(rows: DataFrame) -> str:
    above = [
        str(row["side"])
        for _, row in rows.iterrows()
        if row["neighbours"] - row["chance"] > _DEVIATIONS * row["deviation_chance"]
    ]
    where = {0: "like random ones", 1: f"in their {''.join(above[:1])} only", 2: "on both sides"}[len(above)]
    numbers = ", ".join(f"{row['side']} {row['neighbours']:.3g}" for _, row in rows.iterrows())
    chance = " and ".join(dict.fromkeys(f"{value:.3g}" for value in rows["chance"]))
    return f"the subspaces of adjacent layers overlap {where} (φ: {numbers}; chance {chance})"


def merging(pair: AdapterPair) -> Iterator[str]:
    """Yield sentences on the effect of merging or stacking two adapters on their weights.

    Args:
        pair: from an `AdapterComparison`.
    """
    names = f"{pair.first} and {pair.second}"
    if pair.equal:
        count = len(pair.modules)
        both = "the module" if count == 1 else f"the {count} modules"
        yield f"{names} have equal updates" + (
            f" in {both} that both adapt." if pair.alone else ": the same adapter twice."
        )
        return
    zero = [name for name, kept in zip((pair.first, pair.second), pair.kept, strict=True) if np.isnan(kept)]
    if zero:
        yield f"{names} cannot be compared: every update of {' and of '.join(zero)} is zero where both have a module."
        return
    near = abs(pair.cosine) <= max(_DEVIATIONS * pair.deviation, _SLIGHT)
    alike = "orthogonal as a whole" if near else "opposed as a whole" if pair.cosine < 0 else "aligned as a whole"
    yield (
        f"{names} are {alike}: cosine {pair.cosine:+.4f}; random updates have 0 ± {pair.deviation:.4f}. "
        f"Their sum holds {_held(pair.kept[0])} of {pair.first} along its own direction, and {_held(pair.kept[1])} of "
        f"{pair.second}."
    )
    (one, two), (null, other_null) = pair.overwritten, pair.null
    yield (
        f"Of the energy of {pair.first}, {one:.2%} is in both the inputs and the outputs of {pair.second} and can be "
        f"overwritten by a sum (random subspaces: {null:.2%}); of {pair.second}, {two:.2%} is in those of {pair.first} "
        f"({other_null:.2%})."
    )
    known = pair.modules.dropna(subset="cosine")
    chance = np.maximum(_DEVIATIONS * known["deviation_cosine"], _SLIGHT)
    opposed = int((known["cosine"] < -chance).sum())
    sides = ("overwritten", "overwritten_other")
    beyond = np.min([np.sqrt(known[side]) - np.sqrt(known[f"null_{side}"]) for side in sides], axis=0)
    worst = ", ".join(
        f"{row['module']} {row['layer']} (cosine {row['cosine']:+.3f}, overwritten {row['overwritten']:.1%})"
        for _, row in known[beyond - known["cosine"] > chance].head(3).iterrows()
    )
    unknown = len(pair.modules) - len(known)
    more = f"; {unknown} more {'has' if unknown == 1 else 'have'} a zero update" if unknown else ""
    yield (
        f"Opposed: {opposed} of {len(known)} modules{more}. "
        f"{f'Strongest conflicts: {worst}' if worst else 'No conflict is beyond chance'}. "
        "These concern weights; evaluate the merged model to see the effect on tasks."
    )


def _held(share: float) -> str:
    return f"{share:.3f}" if abs(share) < 1000 else f"{share:.3g}"
