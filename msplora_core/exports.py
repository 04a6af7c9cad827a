"""Lazy public names (PEP 562): a package's stub lists them once, and each is imported when first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazy_loader


def lazy_exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package from the stub beside its `__init__.py`.

    Args:
        package: its `__name__`.
        file: its `__file__`.

    Returns:
        The three; `__getattr__` raises `MissingDependencyError` for a name that needs a missing extra.
    """
    find, names, public = lazy_loader.attach_stub(package, file)

    def get(name: str) -> Any:
        try:
            return find(name)
        except ModuleNotFoundError as error:
            from msplora_core.errors import training_needs

            raise training_needs(error, f"{package}.{name}") from error

    return get, names, sorted(public)
