"""Remarks on the spectra of an adapter, one sentence each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msplora_core.formats.stored import StoredUpdate
from msplora_core.wording import listed

_HEADS = {"classifier", "score", "bias", "modules_to_save", "token_adapter"}


DORA = (
    "DoRA: spectra of the low-rank part only, and so are cosines and subspaces; the magnitudes rescale the rows of the "
    "whole weight and have no spectrum."
)

CONVERTED_NOTE = (
    "Converted from {}: its factors are not those of a training, so null models from factors depend on how the "
    "updates were split."
)


def beside_notes(names: Collection[str], trained: Iterable[str] = ()) -> list[str]:
    """Return the notes on tensors that are not low-rank updates.

    Args:
        names: of the tensors.
        trained: modules that the configuration lists as trained in full.

    Example:
        >>> beside_notes(["base_model.model.classifier.weight", "norm.running_mean"])
        ['classifier.weight: trained beside the adapter, not a low-rank update.', \
'norm.running_mean: saved beside the adapter, not a low-rank update.']
    """
    whole = {part for name in trained for part in name.split(".")[-1:]} | _HEADS
    paths = sorted(name.removeprefix("base_model.model.") for name in names)
    heads = [path for path in paths if whole & set(path.split("."))]
    rest = [path for path in paths if path not in heads]
    notes = []
    if heads:
        notes.append(f"{listed(heads)}: trained beside the adapter, not a low-rank update.")
    if rest:
        notes.append(f"{listed(rest)}: saved beside the adapter, not a low-rank update.")
    return notes


def alpha_notes(given: float | None, *, own: bool, otherwise: str = "B·A is unscaled") -> list[str]:
    """Return the note on the α by which the updates are scaled.

    Args:
        given: α from the user.
        own: whether the file holds α, which is then used.
        otherwise: what is done without any α.

    Example:
        >>> alpha_notes(16, own=True)
        ['Alpha 16 was given, but the file has its own scaling, which is used.']
    """
    if own:
        return [] if given is None else [f"Alpha {given:g} was given, but the file has its own scaling, which is used."]
    if given is not None:
        return [f"Alpha is not in the file; scaled by the given {given:g}/rank."]
    return [f"Alpha is not in the file: {otherwise}. Give alpha to scale it by alpha/rank."]


def rank_notes(updates: Sequence[StoredUpdate]) -> list[str]:
    """Return the note on factors whose rank exceeds the size of their matrix.

    Example:
        >>> wide = StoredUpdate("layers.0.q", (16, 32), 400, 1.0, "float32", load=lambda: None)
        >>> rank_notes([wide])
        ['layers.0.q: rank 400 exceeds the 16 × 32 matrix; singular values beyond 16 are zero.']
    """
    wide = [update for update in updates if update.rank > min(update.shape)]
    if not wide:
        return []
    first = wide[0]
    out, columns = first.shape
    return [
        f"{listed([one.path for one in wide], 1)}: rank {first.rank} exceeds the {out} × {columns} matrix; "
        f"singular values beyond {min(first.shape)} are zero."
    ]
