"""LoHa and LoKr, as PEFT and LyCORIS write them: Hadamard and Kronecker products of low-rank matrices."""

from __future__ import annotations

import math
import re

from msplora_core.formats.contents import Contents, Found
from msplora_core.formats.notes import beside_notes
from msplora_core.formats.peft.configuration import PeftConfig, module_path
from msplora_core.formats.stored import Parts, StoredUpdate, grouped, needed, size_of
from msplora_core.linalg.updates import (
    DenseUpdate,
    HadamardUpdate,
    KroneckerUpdate,
    LowRankUpdate,
    Update,
    flattened,
    hadamard_rank,
    kernel_factors,
    kronecker_rank,
)
from msplora_core.methods import method_name
from msplora_core.storage.tensors import Tensor

PARTS = r"hada_w[12]_[ab]|hada_t[12]|lokr_w[12]|lokr_w[12]_[ab]|lokr_t2"
_NAMES = re.compile(rf"(?P<path>.+)\.(?P<part>{PARTS})(\.[^.]+)?")


def recognise(contents: Contents) -> bool:
    return contents.has_peft_type("LOHA", "LOKR")


def read(contents: Contents) -> Found:
    config = contents.config
    assert config is not None
    groups, aside = grouped(contents.tensors.values(), _NAMES)
    ranks, alphas = config.patterns("rank_pattern"), config.patterns("alpha_pattern")
    updates = []
    for name, parts in groups.items():
        path = module_path(name)
        rank = int(ranks.value_of(path, config.rank("r", 8)))
        _check_rank(config, path, parts, rank)
        updates.append(lycoris_update(path, parts, alphas.value_of(path, config.number("alpha", 8)) / rank))
    method = method_name(config.peft_type.lower(), [config.rank("r", 8)])
    return Found("PEFT", method, updates, config.model, beside_notes(aside, config.modules_to_save))


def _check_rank(config: PeftConfig, path: str, parts: Parts, rank: int) -> None:
    for name in ("hada_w1_b", "hada_w2_b", "lokr_w1_b", "lokr_w2_b"):
        if name in parts and parts[name].shape[:1] != (rank,):
            raise parts[name].error(
                f"rank {rank}, as {config.path.name} gives for {path}",
                f"shape {list(parts[name].shape)}",
                hint="r or rank_pattern does not belong to these weights",
            )


def lycoris_update(path: str, parts: Parts, scaling: float) -> StoredUpdate:
    """Return the update of a module with LoHa's or LoKr's factors.

    Args:
        path: of the adapted module.
        parts: its tensors: `hada_w1_a`, ..., or `lokr_w1`, ....
        scaling: α/r.

    Raises:
        AdapterFileError: if a factor is missing, or shapes do not go together.
    """
    return (_hadamard if any(part.startswith("hada") for part in parts) else _kronecker)(path, parts, scaling)


def lycoris_rank(parts: Parts) -> int | None:
    """Return the rank of the factors; None where LoKr holds both of its matrices in full."""
    for part in ("hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if part in parts and parts[part].shape:
            return parts[part].shape[0]
    return None


def _hadamard(path: str, parts: Parts, scaling: float) -> StoredUpdate:
    one, two = (_Product.of(parts, f"hada_w{side}_a", f"hada_w{side}_b", f"hada_t{side}") for side in (1, 2))
    if one.shape != two.shape:
        raise parts["hada_w2_b"].error(f"factors of a {list(one.shape)} matrix", f"of {list(two.shape)}")
    rank = hadamard_rank(one, two)

    def load() -> Update:
        return HadamardUpdate(one.read(), two.read(), scaling)

    return StoredUpdate(path, one.shape, rank, scaling, parts["hada_w1_b"].dtype, load, parameters=_size(parts))


def _kronecker(path: str, parts: Parts, scaling: float) -> StoredUpdate:
    one, two = _kronecker_side(parts, 1), _kronecker_side(parts, 2)
    shape = (one.shape[0] * two.shape[0], one.shape[1] * two.shape[1])

    def load() -> Update:
        return KroneckerUpdate(one.read(), two.read(), scaling)

    dtype = next(iter(parts.values())).dtype
    return StoredUpdate(path, shape, kronecker_rank(one, two), scaling, dtype, load, parameters=_size(parts))


def _size(parts: Parts) -> int:
    return size_of(*(tensor for part, tensor in parts.items() if re.fullmatch(PARTS, part)))


def _kronecker_side(parts: Parts, side: int) -> _Whole | _Product:
    if f"lokr_w{side}" in parts:
        return _Whole(parts[f"lokr_w{side}"])
    return _Product.of(parts, f"lokr_w{side}_a", f"lokr_w{side}_b", f"lokr_t{side}")


class _Whole:
    """A factor that is one matrix or kernel."""

    def __init__(self, tensor: Tensor) -> None:
        if len(tensor.shape) < 2 or not math.prod(tensor.shape):
            raise tensor.error("a matrix, or the kernel of a convolution", f"shape {list(tensor.shape)}")
        self.tensor = tensor
        self.shape = (tensor.shape[0], math.prod(tensor.shape[1:]))
        self.rank = min(self.shape)

    def read(self) -> DenseUpdate:
        return DenseUpdate(flattened(self.tensor.read()))


class _Product:
    """A factor that is itself the product a·b, or, for a kernel, the Tucker form of core t with a and b."""

    def __init__(self, a: Tensor, b: Tensor, core: Tensor | None) -> None:
        for tensor in (a, b):
            if len(tensor.shape) != 2 or not math.prod(tensor.shape):
                raise tensor.error("a matrix", f"shape {list(tensor.shape)}")
        self.a, self.b, self.core = a, b, core
        if core is None:
            if a.shape[1] != b.shape[0]:
                raise b.error(f"shape [{a.shape[1]}, in], to go with {a.name}", f"shape {list(b.shape)}")
            self.shape, self.rank = (a.shape[0], b.shape[1]), a.shape[1]
            return
        if len(core.shape) != 4 or core.shape[:2] != (a.shape[0], b.shape[0]) or not math.prod(core.shape):
            raise core.error(
                f"shape [{a.shape[0]}, {b.shape[0]}, height, width], to go with {a.name}", f"shape {list(core.shape)}"
            )
        self.shape, self.rank = (a.shape[1], b.shape[1] * core.shape[2] * core.shape[3]), a.shape[0]

    @classmethod
    def of(cls, parts: Parts, a: str, b: str, core: str) -> _Product:
        first, second = needed(parts, a, b)
        return cls(first, second, parts.get(core))

    def read(self) -> LowRankUpdate:
        if self.core is None:
            return LowRankUpdate(self.a.read(), self.b.read())
        return kernel_factors(self.core.read(), self.a.read(), self.b.read())
