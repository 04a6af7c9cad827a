"""Reading a source as a whole, with what is wrong in it."""

from __future__ import annotations

from dataclasses import replace

from msplora_analysis.loading.source import Moment, Source, none_left
from msplora_analysis.loading.sources import Found
from msplora_core.checkup.adapter_check import not_finite
from msplora_core.checkup.finding import Finding
from msplora_core.errors import MSPLoraError

Read = tuple[str, Source | None, list[Moment], list[MSPLoraError], list[Finding]]


def read_whole(found: Found) -> Read:
    """Read all moments of a source, and check its file.

    Args:
        found: the source.

    Returns:
        Its name; the source without what it held, None if it could not be opened; its moments; the errors of all that
        could not be read; the findings of its file and of these errors.
    """
    errors = list[MSPLoraError]()
    try:
        source = found.open()
        moments = list(source.moments(errors))
        checked = source.check()
    except MSPLoraError as error:
        errors.append(error)
        return found.name, None, [], errors, _not_finite(errors)
    released = replace(source, moments=none_left, saved=none_left, check=list)
    return found.name, released, moments, errors, [*_not_finite(errors), *checked]


def _not_finite(errors: list[MSPLoraError]) -> list[Finding]:
    return [finding for error in errors if (finding := not_finite(error))]
