"""Components: the weight updates that an adapter consists of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msplora_core.errors import ParameterError
from msplora_core.linalg.inner_products import update_inner_products
from msplora_core.linalg.singular_values import factored_singular_values, low_rank_singular_values
from msplora_core.linalg.updates import LowRankUpdate, Update
from msplora_core.wording import listed

_KEY = re.compile(r"(?P<scale>global|mid|layer|total)/(?P<module>[^/]+)/(?P<unit>0|[1-9][0-9]{0,9})")

LAST_UNIT = 2**31 - 1
"""Tables hold units as 32-bit integers."""


@dataclass(frozen=True, order=True)
class ComponentKey:
    """A component's scale, module type and unit.

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
        """Return the key of a text `scale/module/unit`.

        Raises:
            ParameterError: if the text has another form, its unit exceeds `LAST_UNIT`, or it is not printable.
        """
        match = _KEY.fullmatch(text)
        if match is None or int(match["unit"]) > LAST_UNIT or not text.isprintable():
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


@dataclass(frozen=True, eq=False)
class ComponentSpectra:
    """Singular values by component key, float64, descending.

    Args:
        spectra: of the weight updates, in the order of the components.
        factor_A: of the factors A of low-rank updates, as they are stored: a separate scaling is not included.
        factor_B: of the factors B, likewise.
    """

    spectra: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    factor_A: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    factor_B: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def component_spectra(components: Iterable[Component]) -> dict[str, NDArray[np.float64]]:
    """Return the spectrum of every component.

    Low-rank updates of equal shape are computed in batches of at most about 16 MB of float32 factors.

    Args:
        components: any number, in any order; may be a generator.

    Returns:
        Singular values by key (`scale/module/unit`), float64, descending, in the order given.
    """
    return _measured(components, factors=False).spectra


def factored_spectra(components: Iterable[Component]) -> ComponentSpectra:
    """Return the spectrum of every component and those of its two factors, in one pass (see `component_spectra`).

    Updates that are not low-rank products have no spectra of factors.
    """
    return _measured(components, factors=True)


def _measured(components: Iterable[Component], *, factors: bool) -> ComponentSpectra:
    found = ComponentSpectra()
    waiting = _Batches(found, factors=factors)
    for component in components:
        key, update = str(component.key), component.update
        found.spectra[key] = _PENDING  # keeps the order of the components
        if isinstance(update, LowRankUpdate):
            if factors:
                found.factor_A[key] = found.factor_B[key] = _PENDING
            waiting.add(key, update)
        else:
            found.spectra[key] = update.singular_values()
    waiting.compute()
    return found


def layer_inner_products(components: Iterable[Component]) -> dict[str, NDArray[np.float64]]:
    """Return, for each module type, the Frobenius inner products of its layers' weight updates.

    A layer's update is the sum over its scales: `total` where there are several, else `layer`. A module type whose
    layers differ in shape has no inner products and is left out.

    Args:
        components: any number, in any order.

    Returns:
        (L, L) float64 by module type; rows and columns in ascending order of the unit.
    """
    by_type: dict[tuple[str, str], dict[int, LowRankUpdate]] = defaultdict(dict)
    for component in components:
        if isinstance(component.update, LowRankUpdate):
            by_type[component.key.scale, component.key.module][component.key.unit] = component.update
    found = {}
    for (scale, module), updates in by_type.items():
        whole = scale == "total" or (scale == "layer" and ("total", module) not in by_type)
        if whole and len({update.shape for update in updates.values()}) == 1:
            found[module] = update_inner_products([updates[unit] for unit in sorted(updates)])
    return found


_PENDING = np.empty(0)


class _Batches:
    """Low-rank updates by shape, until enough are collected to compute them in batches."""

    MOST_ELEMENTS = 2**19
    """4 MB in float64. Larger updates are computed one by one: together they take longer, for the copy."""

    def __init__(self, found: ComponentSpectra, *, factors: bool) -> None:
        self.found = found
        self.factors = factors
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
            B = _stacked([update.B for _, update in batch])
            A = _stacked([update.A for _, update in batch])
            keys = [key for key, _ in batch]
            try:
                if self.factors:
                    sigma, of_B, of_A = factored_singular_values(B, A, scaling)
                    self.found.factor_B.update(zip(keys, of_B, strict=True))
                    self.found.factor_A.update(zip(keys, of_A, strict=True))
                else:
                    sigma = low_rank_singular_values(B, A, scaling)
            except ParameterError as error:
                raise ParameterError(listed(keys, 1), expected=error.expected, found=error.found) from error
            self.found.spectra.update(zip(keys, sigma, strict=True))
        self.by_shape.clear()
        self.elements = 0


def _stacked(factors: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return factors[0][None] if len(factors) == 1 else np.stack(factors)
