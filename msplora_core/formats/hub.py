"""Adapters on the Hugging Face hub, fetched when they are not on the disk."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from msplora_core.errors import AdapterFileError, MissingDependencyError

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_WANTED = ["adapter_config.json", "adapter_model.*", "*.safetensors", "*.bin", "*.json"]


def local_path(path: str | PathLike[str]) -> Path:
    """Where an adapter lies on the disk: the path itself, or where the hub's `owner/name` was fetched to.

    Raises:
        AdapterFileError: if nothing lies there, and it is no hub id or cannot be fetched.
        MissingDependencyError: if it could be a hub id and huggingface_hub is not installed.
    """
    place = Path(path)
    if place.exists() or place.is_symlink():
        return place
    if not _HUB_ID.fullmatch(str(path)):
        raise AdapterFileError(
            place, expected="an adapter's folder or file, or a hub id owner/name", found="nothing there"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError(
            "huggingface_hub", purpose=f"{path} is not on the disk; fetching it from the hub", extra="hub"
        ) from error
    try:
        return Path(snapshot_download(str(path), allow_patterns=_WANTED))
    except Exception as error:  # the hub's client raises errors of its own, of requests and of the system
        raise AdapterFileError(
            place,
            expected="an adapter on the disk, or on the hub",
            found=f"{type(error).__name__}: {error}",
            hint="check the name and the network, or give a path",
        ) from error
