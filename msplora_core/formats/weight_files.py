"""Find the files of an adapter's weights by their names."""

from __future__ import annotations

import re
from pathlib import Path

from msplora_core.errors import AdapterFileError
from msplora_core.formats.other.model_folder import is_model_folder
from msplora_core.storage.folder import first_present, inside
from msplora_core.storage.torch_file import TORCH_SUFFIXES
from msplora_core.wording import listed

CONFIG = "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
OTHER_WEIGHTS = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "adapters.safetensors")

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


def only_weights(folder: Path) -> Path:
    """Return the one file of weights in a folder without a configuration.

    Raises:
        AdapterFileError: if there is none, or more than one.
    """
    files = [file.name for file in sorted(folder.iterdir(), reverse=True) if may_hold_adapter(file)]
    if len({Path(name).stem for name in files}) == 1:  # one file, or the same weights in two formats
        return inside(folder, files[0])
    files.reverse()
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
