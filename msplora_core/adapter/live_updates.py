"""The weight updates of a model in training, which snapshots measure."""

from __future__ import annotations

from typing import Any, Protocol

from msplora_core.adapter.extraction import component_sites, read_components
from msplora_core.components import Component, ComponentKey


class LiveUpdates(Protocol):
    """The updates of one model, read again at every snapshot."""

    note: str
    """Why there are none; empty if there are."""

    def components(self) -> list[Component]:
        """Return every component with its current values."""

    def sites(self) -> dict[ComponentKey, dict[str, int]]:
        """Return the modules that each component serves, by path, each with its layer (see `component_sites`)."""


class AdapterUpdates:
    """The updates of an adapter of PEFT.

    Args:
        model: with the adapter.
    """

    note = ""

    def __init__(self, model: Any) -> None:
        self.model = model

    def components(self) -> list[Component]:
        return read_components(self.model)

    def sites(self) -> dict[ComponentKey, dict[str, int]]:
        return component_sites(self.model)


class NoUpdates:
    """No updates: the method has no weight updates with spectra.

    Args:
        note: why, in a few words.
    """

    def __init__(self, note: str) -> None:
        self.note = note

    def components(self) -> list[Component]:
        return []

    def sites(self) -> dict[ComponentKey, dict[str, int]]:
        return {}
