"""Find the files of an adapter's weights by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from msplora_core.errors import AdapterFileError, FileError
from msplora_core.formats.other.model_folder import is_model_folder
from msplora_core.storage.folder import first_present, inside
from msplora_core.storage.safetensors_file import safetensors_checksums
from msplora_core.storage.torch_file import TORCH_SUFFIXES, torch_checksums
from msplora_core.wording import listed

CONFIG = "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
OTHER_WEIGHTS = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "adapters.safetensors")
CONVERTED_FROM = "msplora_converted_from"
"""In the header of weights that were converted, the method that they were; PEFT warns of unknown fields of `CONFIG`."""

_NO_ADAPTER = re.compile(
    r"(optimizer|scheduler|scaler|training_args|rng_state(_\d+)?|random_states_\d+|pytorch_model.*|model.*|"
    r"diffusion_pytorch_model.*|embeddings?)\.[a-z]+"
)


def may_hold_adapter(path: Path) -> bool:
    """Whether a file may hold an adapter, by its name: not the state of a training or a whole model.

    Example:
        >>> may_hold_adapter(Path("style.safetensors")), may_hold_adapter(Path("optimizer.bin"))
        (True, False)
    """
    return path.suffix in (".safetensors", *TORCH_SUFFIXES) and not _NO_ADAPTER.fullmatch(path.name)


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold an adapter, by their names and in their order."""
    return sorted(file for file in folder.iterdir() if may_hold_adapter(file))


def is_copy(path: Path) -> bool:
    """Whether a file of torch holds the same weights as the safetensors file of its name beside it."""
    other = path.with_suffix(".safetensors")
    if path.suffix not in TORCH_SUFFIXES or not path.is_file() or not other.is_file():
        return False
    with suppress(FileError):
        return checksums(inside(path.parent, path.name)) == checksums(inside(path.parent, other.name))
    return False


def checksums(path: Path) -> Counter[tuple[int, int]]:
    """Return the size in bytes and the CRC-32 of each tensor's data in a file, with their number; torch is not needed.

    Raises:
        FileError: if it cannot be read.
    """
    return torch_checksums(path) if path.suffix in TORCH_SUFFIXES else safetensors_checksums(path)


def unread_notes(path: Path, read: Collection[Path]) -> list[str]:
    """Return the notes on files of weights that are not read.

    Args:
        path: an adapter's folder; or its file, of which only copies in other formats are noted.
        read: the files that are read.
    """
    of_folder = path.is_dir()
    beside = weight_files(path) if of_folder else [path.with_suffix(suffix) for suffix in TORCH_SUFFIXES]
    others = [file for file in beside if file not in read]
    copies = [file.name for file in others if is_copy(file)]
    rest = [file.name for file in others if file.name not in copies] if of_folder else []
    notes = [f"{listed(copies)}: not read, the same weights in another format."] if copies else []
    return notes + ([f"{listed(rest)}: not read; to read one, give its path."] if rest else [])


def only_weights(folder: Path) -> Path:
    """Return the one file of weights in a folder without a configuration.

    Raises:
        AdapterFileError: if there is none, or more than one.
    """
    files = [file.name for file in weight_files(folder)]
    if len({Path(name).stem for name in files}) == 1:  # one file, or one name in two formats
        return inside(folder, files[-1])
    if files:
        raise AdapterFileError(
            folder,
            expected=f"{CONFIG}, or one file of weights",
            found=f"{len(files)}: {listed(files, 5)}",
            hint="name one of the files",
        )
    if is_model_folder(folder):
        raise AdapterFileError(
            folder, expected="an adapter", found="a whole model", hint="give its base model as base (--base)"
        )
    raise AdapterFileError(folder, expected=f"{CONFIG}, or one file of weights", found="none")


def peft_weights(folder: Path) -> Path:
    """Return the file of weights beside PEFT's configuration.

    Raises:
        AdapterFileError: if there is none.
    """
    weights = first_present(folder, *PEFT_WEIGHTS)
    if weights is None:
        raise AdapterFileError(folder, expected=" or ".join(PEFT_WEIGHTS), found="neither")
    return weights
