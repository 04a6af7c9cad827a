"""The weights of a base model that an adapter changes, read on demand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from msplora_core.errors import AdapterFileError, ParameterError
from msplora_core.formats.hub import is_hub_id
from msplora_core.formats.other.model_folder import read_model_tensors
from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.formats.weight_files import CONFIG
from msplora_core.linalg.updates import flattened
from msplora_core.storage.tensors import Tensor


class BaseWeights:
    """The weights of a base model by the path of their module.

    Args:
        base: the model's folder or file.
        shapes: (out, in) of the updates, by the path of the module that they change.
        adapter: the adapter's folder, whose configuration says whether weights are transposed (GPT-2).
        model: the base model that the adapter names, for errors.

    Raises:
        AdapterFileError: if there is no such model, or a weight is missing or of another shape.
        ParameterError: for a base on the hub.
    """

    def __init__(
        self, base: str | PathLike[str], shapes: Mapping[str, tuple[int, int]], adapter: Path, model: str
    ) -> None:
        if is_hub_id(base):
            raise ParameterError("base", expected="a folder or file on this disk", found=str(base))
        self.path = Path(base)
        self._hint = f"the adapter names {model} as its base" if model else "is it the adapter's base?"
        config = adapter / CONFIG
        self._transposed = config.is_file() and PeftConfig.read(config).flag("fan_in_fan_out")
        tensors = read_model_tensors(self.path).tensors
        by_end = {f"{name.partition('.')[2]}": tensor for name, tensor in tensors.items()}
        self._tensors = {path: self._found(path, shape, tensors, by_end) for path, shape in shapes.items()}

    def read(self, path: str) -> NDArray[Any]:
        """Return a module's weight as (out, in); kernels of convolutions are flattened.

        Raises:
            FileError: if it cannot be read, is not of a floating-point type, or holds NaN or infinity.
        """
        tensor, transposed = self._tensors[path]
        values = flattened(tensor.read())
        return values.T if transposed else values

    def _found(
        self, path: str, shape: tuple[int, int], tensors: Mapping[str, Tensor], by_end: Mapping[str, Tensor]
    ) -> tuple[Tensor, bool]:
        name = f"{path}.weight"
        # The first name of the path is missing in a base saved without its head, and in an adapter of the bare model.
        tensor = tensors.get(name) or tensors.get(name.partition(".")[2]) or by_end.get(name)
        if tensor is None:
            raise AdapterFileError(
                self.path, key=name, expected="a weight that the adapter changes", found="none", hint=self._hint
            )
        found = tensor.shape[0], math.prod(tensor.shape[1:])
        if found == shape and not (self._transposed and len(tensor.shape) == 2):
            return tensor, False
        if found[::-1] == shape and len(tensor.shape) == 2:
            return tensor, True
        raise tensor.error(f"shape {list(shape)}, that of the adapter's update", f"{list(tensor.shape)}", self._hint)
