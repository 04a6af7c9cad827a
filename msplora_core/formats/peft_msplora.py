"""MSPLoRA."""

from msplora_core.formats.family import Found, Source


def recognise(source: Source) -> bool:
    return False


def read(source: Source) -> Found:
    raise NotImplementedError
