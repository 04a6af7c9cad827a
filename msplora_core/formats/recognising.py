"""Read an adapter: open its files, find the format that recognises them, and let it read them."""

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
from msplora_core.formats.hub import is_hub_id, local_path
from msplora_core.formats.keys import component_keys
from msplora_core.formats.notes import CONVERTED_NOTE, alpha_notes, rank_notes
from msplora_core.formats.other import diffusion, full, loralib, pairs
from msplora_core.formats.other.model_folder import read_model_tensors
from msplora_core.formats.peft import adalora, lora, lycoris, msplora, vera
from msplora_core.formats.peft.configuration import PeftConfig
from msplora_core.formats.stored import StoredUpdate
from msplora_core.formats.weight_files import (
    CONFIG,
    CONVERTED_FROM,
    PEFT_WEIGHTS,
    only_weights,
    peft_weights,
    unread_notes,
)
from msplora_core.methods import CONVERTED
from msplora_core.runs import RunDirectory
from msplora_core.storage.folder import first_present
from msplora_core.storage.json_file import plain_text
from msplora_core.storage.tensor_file import read_tensor_file
from msplora_core.storage.tensors import TensorFile
from msplora_core.wording import listed

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
"""All formats, the most specific first: modules with `recognise(contents)` and `read(contents)`."""

READABLE = ("LORA", "ADALORA", "LOHA", "LOKR", "VERA", "MSPLORA")
_REFUSED = {
    "depends on the input": ("XLORA", "LILY", "POLY", "SHADOW", "BOTTLENECK"),
    "is not a weight update": ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT",
                               "ADAPTION_PROMPT", "CARTRIDGE", "TRAINABLE_TOKENS", "LN_TUNING"),
    "multiplies the base model's weights": ("IA3", "OFT", "BOFT", "HRA", "ROAD", "HIRA", "PSOFT"),
}  # fmt: skip


def read_adapter(
    path: str | PathLike[str],
    *,
    alpha: float | None = None,
    base: str | PathLike[str] | None = None,
    module: str | Collection[str] = (),
    model: str | None = None,
    task: str | None = None,
    seed: int | None = None,
) -> Adapter:
    """Open an adapter. Its values are read one component at a time, when the components are iterated.

    Args:
        path: an adapter's folder or file, or `hf://owner/name`; with `base`, a full fine-tune.
        alpha: α for files that do not hold it; without it, their updates are unscaled.
        base: the base model's folder or file, to compare a full fine-tune with.
        module: module types or ends of module paths to keep; by default all.
        model: the base model's id; by default the one that the adapter records.
        task: the task on which the adapter was trained.
        seed: of the training.

    Raises:
        AdapterFileError: if there is no adapter, or it is damaged or inconsistent.
        UnsupportedAdapterError: if the method's update has no spectrum.
        MissingDependencyError: if a `.bin` or `.pt` is read without torch.
        ParameterError: if no module matches `module`, alpha is not finite, or base is on the hub.

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
    if base is not None and is_hub_id(base):
        raise ParameterError("base", expected="a folder or file on this disk", found=str(base))
    contents = _open(local_path(path), alpha, None if base is None else local_path(base))
    found = _recognised(contents)
    if not found.updates:
        raise AdapterFileError(contents.path, expected="at least one pair of factors", found="none")
    paths = [update.path for update in found.updates]
    of_targets = [] if contents.config is None else contents.config.target_notes(paths)
    keys = component_keys(contents.path, found.updates)
    updates, keys = _chosen(found, keys, (module,) if isinstance(module, str) else module)
    scaled = contents.config is not None or contents.base is not None
    files = tuple(sorted({tensor.path for tensor in contents.tensors.values()}))
    unread = unread_notes(contents.path, files) if base is None else ()
    of_alpha = alpha_notes(alpha, own=True) if scaled else ()
    origin = plain_text(contents.metadata.get(CONVERTED_FROM))
    of_origin = [CONVERTED_NOTE.format(origin)] if origin else []
    notes = [*found.notes, *of_origin, *of_targets, *of_alpha, *rank_notes(updates), *unread]
    return Adapter(
        path=contents.path,
        format=found.format,
        method=f"{found.method}-{CONVERTED}" if origin else found.method,
        model=found.model if model is None else model,
        notes=tuple(notes),
        updates=updates,
        keys=keys,
        task=task or "",
        seed=seed,
        files=files,
        magnitudes=found.magnitudes,
        config=contents.config,
    )


def _open(path: Path, alpha: float | None, base: Path | None) -> Contents:
    """The tensors at a path, with the configuration beside them."""
    of_peft = path.name in PEFT_WEIGHTS and (path.parent / CONFIG).is_file()
    if path.is_file() and not of_peft:
        return _contents(path, read_tensor_file(path), None, alpha, base)
    folder = path.parent if of_peft else path
    if not folder.is_dir():
        raise AdapterFileError(path, expected="an adapter's folder or file", found="neither")
    config_path = first_present(folder, CONFIG)
    config = PeftConfig.read(config_path) if config_path else None
    if config is not None and config.peft_type:
        _check_supported(folder, config)
        return _contents(path, read_tensor_file(path if of_peft else peft_weights(folder)), config, alpha, base)
    if base is not None:
        return _contents(path, read_model_tensors(path), None, alpha, base)
    return _contents(path, read_tensor_file(only_weights(path)), None, alpha, base)


def _contents(
    path: Path, file: TensorFile, config: PeftConfig | None, alpha: float | None, base: Path | None
) -> Contents:
    return Contents(path, file.tensors, file.metadata, config, alpha, base)


def _check_supported(path: Path, config: PeftConfig) -> None:
    if config.peft_type in READABLE:
        return
    reasons = (reason for reason, methods in _REFUSED.items() if config.peft_type in methods)
    reason = next(reasons, "cannot be read here")
    of_run = "; svd shows what its run recorded" if RunDirectory.is_run(path.parent) else ""
    raise UnsupportedAdapterError(
        f"{path}: the method {config.peft_type} {reason}, so these files give no spectra; "
        f"expected one of {', '.join(READABLE)}{of_run}"
    )


def _recognised(contents: Contents) -> Found:
    for one in FORMATS:
        if one.recognise(contents):
            found: Found = one.read(contents)
            return found
    shown = listed(list(contents.tensors)) or "no tensors"
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
