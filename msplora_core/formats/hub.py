"""Adapters on the Hugging Face hub, named `hf://owner/name`."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from msplora_core.errors import AdapterFileError, MissingDependencyError, ParameterError
from msplora_core.formats.weight_files import CONFIG, OTHER_WEIGHTS, PEFT_WEIGHTS

PREFIX = "hf://"

FETCHED = [f"*{name}" for name in (CONFIG, *PEFT_WEIGHTS, *OTHER_WEIGHTS, "trainer_state.json", "lora*.safetensors")]
"""Patterns of an adapter's own files, at any depth."""

NOT_FETCHED = ["model.safetensors", "*/model.safetensors", "*model-*-of-*", "*pytorch_model*"]
"""Patterns of a base model's weights, in any folder."""

_HUB_ID = re.compile(r"hf:/{1,2}(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")


def is_hub_id(path: str | PathLike[str]) -> bool:
    """Whether a name is that of an adapter on the hub; all other names are local paths.

    Example:
        >>> is_hub_id("hf://owner/name"), is_hub_id("owner/name")
        (True, False)
    """
    return str(path).startswith((PREFIX, "hf:/"))  # pathlib turns two slashes into one


def local_path(path: str | PathLike[str]) -> Path:
    """Return the local path of an adapter; fetch it if it is named by its id on the hub.

    Args:
        path: a path, or `hf://owner/name`, or `hf://owner/name@revision`.

    Raises:
        ParameterError: if it is no path: a table, or a list of paths.
        AdapterFileError: if the path does not exist, or the adapter cannot be fetched.
        MissingDependencyError: for an id on the hub, if huggingface_hub is not installed.
    """
    if is_hub_id(path):
        return _fetched(str(path))
    if not isinstance(path, str | PathLike):
        raise ParameterError("path", expected="one path, or hf://owner/name", found=type(path).__name__)
    place = Path(path)
    if place.exists() or place.is_symlink():
        return place
    raise AdapterFileError(
        place,
        expected="an adapter's folder or file",
        found="no such file or folder",
        hint="an adapter on the hub is named hf://owner/name",
    )


def _fetched(name: str) -> Path:
    match = _HUB_ID.fullmatch(name)
    if match is None:
        raise AdapterFileError(name, expected="hf://owner/name or hf://owner/name@revision", found=name)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError("huggingface_hub", purpose=f"fetching {name}", extra="hub") from error
    try:
        folder = Path(
            snapshot_download(
                match["id"], revision=match["revision"], allow_patterns=FETCHED, ignore_patterns=NOT_FETCHED
            )
        )
    except Exception as error:  # the hub's client raises many types: its own, of its HTTP library, of the system
        raise AdapterFileError(
            name,
            expected="an adapter on the hub",
            found=f"{type(error).__name__}: {error}",
            hint="check the name and the network",
        ) from error
    if not any(file.is_file() for file in folder.rglob("*")):
        raise AdapterFileError(
            name,
            expected=f"an adapter's files ({CONFIG}, {PEFT_WEIGHTS[0]}, {OTHER_WEIGHTS[0]}, *lora*.safetensors)",
            found="none of them on the hub",
            hint="for a file of another name, download it and give its path",
        )
    return folder
