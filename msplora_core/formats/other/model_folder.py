"""A whole model: one file of tensors, or several with an index."""

from __future__ import annotations

from pathlib import Path

from msplora_core.errors import AdapterFileError
from msplora_core.storage.folder import first_present, inside
from msplora_core.storage.json_file import read_json_object
from msplora_core.storage.tensor_file import read_tensor_file
from msplora_core.storage.tensors import Tensor, TensorFile

_NAMES = ("model.safetensors", "diffusion_pytorch_model.safetensors")
_READABLE = (*_NAMES, "pytorch_model.bin")
"""The last needs torch."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds a whole model in safetensors."""
    return any((path / name).exists() or (path / f"{name}.index.json").exists() for name in _NAMES)


def read_model_tensors(path: Path) -> TensorFile:
    """Return the tensors of a model, not read yet.

    Args:
        path: a folder as transformers or diffusers writes it, or a file.

    Raises:
        AdapterFileError: if there is no such model, or a shard is missing, damaged or outside the folder.
        MissingDependencyError: if it is in `.bin` files and torch is missing.
    """
    if path.is_file():
        return read_tensor_file(path)
    index = first_present(path, *(f"{name}.index.json" for name in _READABLE))
    single = first_present(path, *_READABLE)
    if single is not None:
        return read_tensor_file(single)
    if index is None:
        raise AdapterFileError(
            path, expected="a model (model.safetensors, pytorch_model.bin, or the index of either)", found="none",
        )  # fmt: skip
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise AdapterFileError(index, key="weight_map", expected="file by tensor", found=places)
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        tensors |= read_tensor_file(inside(path, shard)).tensors
    missing = [name for name in places if name not in tensors]
    if missing:
        raise AdapterFileError(index, key=str(missing[0]), expected=f"it in {places[missing[0]]}", found="none")
    return TensorFile(index, tensors)
