"""Components: the low-rank weight updates that an adapter is made of, whoever trained it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.singular_values import low_rank_singular_values
from msplora_core.linalg.updates import LowRankUpdate, Update

_KEY = re.compile(r"(?P<scale>global|mid|layer|total)/(?P<module>[^/]+)/(?P<unit>\d+)")


@dataclass(frozen=True, order=True)
class ComponentKey:
    """Which component: its scale, its module type, its unit.

    Example:
        >>> str(ComponentKey("mid", "value", 2)), ComponentKey.parse("layer/query/11")
        ('mid/value/2', ComponentKey(scale='layer', module='query', unit=11))
    """

    scale: str
    module: str
    unit: int

    def __str__(self) -> str:
        return f"{self.scale}/{self.module}/{self.unit}"

    @classmethod
    def parse(cls, text: str) -> ComponentKey:
        """The key that `str` gave.

        Raises:
            ParameterError: if the text is no key.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            raise ParameterError("component key", expected="scale/module/unit, as in layer/query/11", found=text)
        return cls(match["scale"], match["module"], int(match["unit"]))


@dataclass(frozen=True, eq=False)
class Component:
    """One weight update and where it belongs.

    Args:
        key: scale, module type and unit.
        update: the weight update itself.
    """

    key: ComponentKey
    update: Update


def component_spectra(components: Iterable[Component]) -> dict[str, NDArray[np.float64]]:
    """The spectrum of every component, with low-rank updates of equal shape computed as one batch.

    Holds some 16 MB of float32 factors at a time, however many there are.

    Args:
        components: any number, in any order; may be a generator.

    Returns:
        Singular values by key (`scale/module/unit`), float64, descending, in the order given.
    """
    spectra: dict[str, NDArray[np.float64]] = {}
    waiting = _Batches(spectra)
    for component in components:
        key, update = str(component.key), component.update
        spectra[key] = _PENDING  # holds the place, so that the order is that of the components
        if isinstance(update, LowRankUpdate):
            waiting.add(key, update)
        else:
            spectra[key] = update.singular_values()
    waiting.compute()
    return spectra


_PENDING = np.empty(0)


class _Batches:
    """Low-rank updates that wait to be computed together with others of their shape."""

    MOST_ELEMENTS = 2**22

    def __init__(self, spectra: dict[str, NDArray[np.float64]]) -> None:
        self.spectra = spectra
        self.by_shape: dict[tuple[tuple[int, int], int], list[tuple[str, LowRankUpdate]]] = defaultdict(list)
        self.elements = 0

    def add(self, key: str, update: LowRankUpdate) -> None:
        self.by_shape[update.shape, update.rank].append((key, update))
        self.elements += update.B.size + update.A.size
        if self.elements >= self.MOST_ELEMENTS:
            self.compute()

    def compute(self) -> None:
        for batch in self.by_shape.values():
            scaling = np.array([update.scaling for _, update in batch])
            B = np.stack([update.B for _, update in batch])
            A = np.stack([update.A for _, update in batch])
            for (key, _), sigma in zip(batch, low_rank_singular_values(B, A, scaling), strict=True):
                self.spectra[key] = sigma
        self.by_shape.clear()
        self.elements = 0
