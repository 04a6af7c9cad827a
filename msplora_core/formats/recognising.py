"""From a path to an adapter: open what is there, let the first format that recognises it read it."""

from __future__ import annotations

import math
from collections.abc import Collection
from os import PathLike
from pathlib import Path
from types import ModuleType

from msplora_core.components import ComponentKey
from msplora_core.errors import AdapterFileError, ParameterError, UnsupportedAdapterError
from msplora_core.formats.adapter_file import Adapter
from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.hub import local_path
from msplora_core.formats.keys import component_keys
from msplora_core.formats.other import diffusion, full, loralib, pairs
from msplora_core.formats.other.model_folder import is_model_folder, read_model_tensors
from msplora_core.formats.peft import adalora, lora, lycoris, msplora, vera
from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.formats.stored import StoredUpdate
from msplora_core.storage.folder import first_present, inside
from msplora_core.storage.tensor_file import read_tensor_file
from msplora_core.storage.tensors import TensorFile
from msplora_core.storage.torch_file import TORCH_SUFFIXES

FORMATS: tuple[ModuleType, ...] = (
    lora,
    adalora,
    lycoris,
    vera,
    msplora,
    full,
    diffusion,
    loralib,
    pairs,
)
"""Every format that can be read, the most particular first. A new one is a module like these and a name here."""

CONFIG = "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
OTHER_WEIGHTS = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "adapters.safetensors")

READABLE = ("LORA", "ADALORA", "LOHA", "LOKR", "VERA", "MSPLORA")
_REFUSED = {
    "depends on the input": ("XLORA", "LILY", "POLY", "SHADOW"),
    "is no weight update": ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT",
                            "ADAPTION_PROMPT", "CARTRIDGE", "TRAINABLE_TOKENS", "LN_TUNING"),
    "multiplies the base model's weights": ("IA3", "OFT", "BOFT", "HRA", "ROAD", "HIRA", "PSOFT"),
}  # fmt: skip


def read_adapter(
    path: str | PathLike[str],
    *,
    alpha: float | None = None,
    base: str | PathLike[str] | None = None,
    module: str | Collection[str] = (),
) -> Adapter:
    """Recognise an adapter. Its values are read when its components are asked for, one at a time.

    Args:
        path: an adapter's folder or file, or a hub id; with `base`, a full fine-tune.
        alpha: α for files that do not hold it; their updates are unscaled without.
        base: the base model's folder or file, to hold a full fine-tune against.
        module: module types or ends of module paths to keep; all where empty.

    Raises:
        AdapterFileError: if there is nothing to read, or it is damaged or contradicts itself.
        UnsupportedAdapterError: if the method's update has no spectrum of its own.
        MissingDependencyError: if a `.bin` or `.pt` is read without torch.
        ParameterError: if no module is called as `module` says, or alpha is no finite number.

    Example:
        >>> import json, tempfile, numpy as np
        >>> from safetensors.numpy import save_file
        >>> folder = Path(tempfile.mkdtemp())
        >>> name = "base_model.model.layers.0.q_proj.lora_{}.weight"
        >>> tensors = {name.format("A"): np.eye(2, 6), name.format("B"): np.diag([3.0, 1.0])}
        >>> save_file(tensors, folder / "adapter_model.safetensors")
        >>> _ = (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
        >>> adapter = read_adapter(folder)
        >>> adapter.method, [(str(c.key), c.update.singular_values().tolist()) for c in adapter.components()]
        ('lora-r2', [('layer/q_proj/0', [6.0, 2.0])])
    """
    if alpha is not None and not math.isfinite(alpha):
        raise ParameterError("alpha", expected="a finite number", found=alpha)
    contents = _open(local_path(path), alpha, None if base is None else local_path(base))
    found = _recognised(contents)
    if not found.updates:
        raise AdapterFileError(contents.path, expected="at least one pair of factors", found="none")
    keys = component_keys(contents.path, found.updates)
    updates, keys = _chosen(found, keys, (module,) if isinstance(module, str) else module)
    return Adapter(contents.path, found.format, found.method, found.model, tuple(found.notes), updates, keys)


def _open(path: Path, alpha: float | None, base: Path | None) -> Contents:
    """What lies at a path, with the configuration that belongs to it."""
    if path.name in PEFT_WEIGHTS and (path.parent / CONFIG).is_file():
        path = path.parent
    if path.is_file():
        return _contents(path, read_tensor_file(path), None, alpha, base)
    if not path.is_dir():
        raise AdapterFileError(path, expected="an adapter's folder or file", found="neither")
    config_path = first_present(path, CONFIG)
    config = PeftConfig.read(config_path) if config_path else None
    if config is not None and config.peft_type:
        _check_supported(path, config)
        weights = first_present(path, *PEFT_WEIGHTS)
        if weights is None:
            raise AdapterFileError(path, expected=" or ".join(PEFT_WEIGHTS), found="neither")
        return _contents(path, read_tensor_file(weights), config, alpha, base)
    if base is not None:
        return _contents(path, read_model_tensors(path), None, alpha, base)
    return _contents(path, read_tensor_file(_only_weights(path)), None, alpha, base)


def _contents(
    path: Path, file: TensorFile, config: PeftConfig | None, alpha: float | None, base: Path | None
) -> Contents:
    return Contents(path, file.tensors, file.metadata, config, alpha, base)


def _only_weights(folder: Path) -> Path:
    """The one file of weights in a folder without a configuration."""
    known = first_present(folder, *OTHER_WEIGHTS)
    if known is not None:
        return known
    if is_model_folder(folder):
        raise AdapterFileError(
            folder, expected="an adapter", found="a whole model", hint="give its base model as base (--base)"
        )
    files = [file for file in sorted(folder.iterdir()) if file.suffix in (".safetensors", *TORCH_SUFFIXES)]
    if len(files) != 1:
        found = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "") or "none"
        raise AdapterFileError(folder, expected=f"{CONFIG}, or one file of weights", found=found)
    return inside(folder, files[0].name)


def _check_supported(path: Path, config: PeftConfig) -> None:
    if config.peft_type in READABLE:
        return
    reasons = (reason for reason, methods in _REFUSED.items() if config.peft_type in methods)
    reason = next(reasons, "is not known here")
    raise UnsupportedAdapterError(
        f"{path}: the method {config.peft_type} {reason}, so it has no spectra; expected one of {', '.join(READABLE)}"
    )


def _recognised(contents: Contents) -> Found:
    for one in FORMATS:
        if one.recognise(contents):
            found: Found = one.read(contents)
            return found
    names = list(contents.tensors)
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "no tensors"
    raise AdapterFileError(
        contents.path, expected="tensors that pair up as the factors of an adapter", found=shown,
        hint="a whole model needs its base (--base)",
    )  # fmt: skip


def _chosen(
    found: Found, keys: list[ComponentKey], module: Collection[str]
) -> tuple[list[StoredUpdate], list[ComponentKey]]:
    """The updates of the wanted modules."""
    if not module:
        return list(found.updates), keys

    def wanted(update: StoredUpdate, own: ComponentKey) -> bool:
        return any(f".{update.path}".endswith(f".{name}") or own.module == name for name in module)

    kept = [(update, own) for update, own in zip(found.updates, keys, strict=True) if wanted(update, own)]
    if not kept:
        types = sorted({own.module for own in keys})
        raise ParameterError("module", expected=f"one of {', '.join(types[:20])}", found=", ".join(module))
    return [update for update, _ in kept], [own for _, own in kept]
