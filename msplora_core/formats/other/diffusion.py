"""Adapters of diffusion models in one file, with the flat names of kohya and LyCORIS or the names of diffusers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import alpha_notes, beside_notes
from msplora_core.formats.other.diffusion_names import module_path
from msplora_core.formats.peft.lycoris import PARTS, lycoris_rank, lycoris_update
from msplora_core.formats.stored import Layout, Parts, StoredUpdate, grouped, low_rank, needed, size_of
from msplora_core.linalg.updates import Update, kernel_factors
from msplora_core.methods import method_name
from msplora_core.storage.json_file import plain_text
from msplora_core.storage.tensors import Tensor

_DOWN = ("lora_down", "lora.down", "lora_linear_layer.down", "lora_A")
_UP = ("lora_up", "lora.up", "lora_linear_layer.up", "lora_B")
_NAMES = re.compile(
    r"(?P<path>.+?)(?:_lora(?=[._]alpha))?[._](?P<part>"
    rf"(?:{'|'.join(map(re.escape, (*_DOWN, *_UP)))}|lora_mid)(?:\.[^.]+)?(?=\.weight)|{PARTS}"
    r"|alpha|dora_scale|lora_magnitude_vector(?:\.[^.]+)?(?=\.weight)|lora_magnitude_vector)(?:\.weight)?"
)
_FLAT = re.compile(r"lora_(unet|te\d?|transformer|prior_unet)_.+")
_OWNERS = r"(unet|transformer|transformer_2|text_encoder|text_encoder_2|text_encoder_3|prior|diffusion_model)\."


def recognise(contents: Contents) -> bool:
    return any(
        _FLAT.match(name) or (re.match(_OWNERS, name) and _NAMES.fullmatch(name)) or "_lora.down." in name
        or ".lora.down." in name or ".lora_down." in name or ".lora_A." in name or re.search(rf"\.({PARTS})$", name)
        for name in contents.tensors
    )  # fmt: skip


def read(contents: Contents) -> Found:
    flat = any(_FLAT.match(name) for name in contents.tensors)
    bare_peft = any(name.startswith("base_model.model.") for name in contents.tensors)
    groups, aside = grouped(contents.tensors.values(), _NAMES)
    settings = _adapter_metadata(contents.metadata)
    updates, notes, words = [], [], set()
    for name, raw in groups.items():
        parts = {_part(part): tensor for part, tensor in raw.items()}
        if not set(parts) - {"alpha", "magnitude"}:
            aside.extend(tensor.name for tensor in parts.values())
            continue
        words.add(_word(parts))
        updates.append(_update(contents, module_path(name), parts, settings))
    if any("magnitude" in {_part(part) for part in raw} for raw in groups.values()):
        notes.append("DoRA: the low-rank part only; the magnitudes, which rescale the whole weight, are left out.")
    own = bool(settings) or any("alpha" in parts for parts in groups.values())
    notes += alpha_notes(contents.alpha, own=own, otherwise="the scaling is 1, as in diffusers")
    word = "-".join(sorted(words)) or "lora"
    method = method_name(word, [update.rank for update in updates] if word in ("lora", "dora") else [])
    model = plain_text(contents.metadata.get("ss_sd_model_name") or contents.metadata.get("ss_base_model_version"))
    writer = "kohya" if flat else "PEFT, without its configuration" if bare_peft else "diffusers"
    return Found(writer, method, updates, model, [*notes, *beside_notes(aside)])


def _part(part: str) -> str:
    """The part of an update that a tensor holds, under one name for all tools."""
    bare = re.sub(r"^(lora_A|lora_B|lora_magnitude_vector)\..+", r"\1", part)
    if bare in _DOWN:
        return "down"
    if bare in _UP:
        return "up"
    return {"lora_mid": "mid", "dora_scale": "magnitude", "lora_magnitude_vector": "magnitude"}.get(bare, bare)


def _word(parts: Parts) -> str:
    if any(part.startswith("hada") for part in parts):
        return "loha"
    if any(part.startswith("lokr") for part in parts):
        return "lokr"
    return "dora" if "magnitude" in parts else "lora"


def _update(contents: Contents, path: str, parts: Parts, settings: Mapping[str, Any]) -> StoredUpdate:
    if _word(parts) in ("loha", "lokr"):
        rank = lycoris_rank(parts)
        # LyCORIS ignores α for a LoKr of two full matrices.
        return lycoris_update(path, parts, 1.0 if rank is None else _scaling(contents, path, parts, rank, settings))
    down, up = needed(parts, "down", "up")
    rank = down.shape[0] if down.shape else 1
    scaling = _scaling(contents, path, parts, max(rank, 1), settings)
    if "mid" in parts:
        return _tucker(path, up, parts["mid"], down, scaling)
    return low_rank(path, up, down, scaling)


def _tucker(path: str, up: Tensor, mid: Tensor, down: Tensor, scaling: float) -> StoredUpdate:
    """The update of a convolution as three convolutions: 1 × 1 down, the kernel, 1 × 1 up."""
    for tensor in (up, mid, down):
        if len(tensor.shape) != 4 or not math.prod(tensor.shape):
            raise tensor.error("the kernel of a convolution", f"shape {list(tensor.shape)}")
    r, s = mid.shape[:2]
    if up.shape[1:] != (r, 1, 1) or down.shape[::2] != (s, 1):
        raise mid.error(f"shape [{up.shape[1]}, {down.shape[0]}, height, width]", f"shape {list(mid.shape)}")
    shape = (up.shape[0], down.shape[1] * mid.shape[2] * mid.shape[3])

    def load() -> Update:
        product = kernel_factors(mid.read(), up.read()[:, :, 0, 0].T, down.read()[:, :, 0, 0])
        return replace(product, scaling=scaling)

    layout = Layout((down.shape[1], *mid.shape[2:]))
    return StoredUpdate(path, shape, r, scaling, down.dtype, load, parameters=size_of(up, mid, down), layout=layout)


def _scaling(contents: Contents, path: str, parts: Parts, rank: int, settings: Mapping[str, Any]) -> float:
    """α/r with the α beside the factors, else that of diffusers' metadata, else the user's, else 1."""
    if "alpha" in parts:
        return parts["alpha"].number() / rank
    owner = path.partition(".")[0]
    alpha = settings.get(f"{owner}.lora_alpha", settings.get("lora_alpha"))
    if isinstance(alpha, int | float) and math.isfinite(alpha):
        return alpha / (math.sqrt(rank) if settings.get(f"{owner}.use_rslora") else rank)
    return contents.given_scaling(rank)


def _adapter_metadata(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """diffusers' settings in the header: `unet.lora_alpha`, `unet.r`, ...; empty where there are none."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}
