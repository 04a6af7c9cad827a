"""The place of an adapted module in its model: stack, layer and module type, from its dotted path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

_MOST_DIGITS = 9
"""Of a size in a stack's name, which may come from an untrusted file."""


class PlacementWarning(UserWarning):
    """Modules are adapted otherwise than a reader of the configuration would expect."""


@dataclass(frozen=True)
class Placement:
    """The place of one adapted module.

    Args:
        module: shortest unique name of the module type: `query`, `decoder.v`.
        layer: index of its layer within its stack; None for a module outside any list of layers.
    """

    module: str
    layer: int | None


def list_paths(paths: Iterable[str]) -> set[str]:
    """Return the paths that look like lists of layers: those followed by a number.

    For a live model, pass the paths of its `ModuleList`s to `place_modules` instead.

    Example:
        >>> sorted(list_paths(["encoder.layer.0.attention.q", "encoder.layer.1.attention.q", "pooler"]))
        ['encoder.layer']
    """
    found: set[str] = set()
    for path in paths:
        names = path.split(".")
        found.update(".".join(names[:place]) for place, name in enumerate(names) if name.isdecimal() and place)
    return found


def outermost(path: str, lists: Iterable[str]) -> str | None:
    """Return the path of the outermost list of layers that a module stands in; None outside any.

    Example:
        >>> outermost("encoder.layer.0.experts.1.up", ["encoder.layer.0.experts", "encoder.layer"])
        'encoder.layer'
    """
    return next((name for name in sorted(lists, key=len) if path.startswith(f"{name}.")), None)


def place_modules(paths: Collection[str], lists: Collection[str] | None = None) -> dict[str, Placement]:
    """Place every adapted module in its stack of layers.

    The outermost list in a path is its stack, and the position in that list is the layer. The rest of the path is
    the module type, named by its shortest ending that is unique within the stack. If there are several stacks
    (encoder and decoder of a T5, the two towers of a CLIP), a unique part of the stack's name is put before it.

    Args:
        paths: dotted paths of the adapted modules.
        lists: paths of the lists of layers; by default those followed by a number.

    Returns:
        The placement of each path.

    Example:
        >>> paths = [f"{side}.block.{i}.layer.0.SelfAttention.{m}" for side in ("encoder", "decoder")
        ...          for i in range(2) for m in "qv"]
        >>> place_modules(paths)["decoder.block.1.layer.0.SelfAttention.v"]
        Placement(module='decoder.v', layer=1)
        >>> place_modules(["bert.encoder.layer.3.attention.self.query", "classifier"])
        {'bert.encoder.layer.3.attention.self.query': Placement(module='query', layer=3), 'classifier': Placement(module='classifier', layer=None)}
    """  # noqa: E501 - the example's output is one line
    lists = set(list_paths(paths) if lists is None else lists)
    split = {path: _split(path, lists) for path in paths}
    types: dict[str, set[str]] = defaultdict(set)
    for stack, _, rest in split.values():
        types[stack].add(rest)
    short = {stack: _shortest_endings(rests) for stack, rests in types.items()}
    prefix = _prefixes([stack for stack in types if stack])
    return {
        path: Placement(prefix.get(stack, "") + short[stack][rest], layer)
        for path, (stack, layer, rest) in split.items()
    }


def expert_name(name: str, expert: int) -> str:
    """Return the name of one expert's matrix, where one parameter holds the matrices of several experts.

    Example:
        >>> expert_name("down_proj", 3)
        'down_proj.expert3'
    """
    return f"{name}.expert{expert}"


@lru_cache(maxsize=10_000)  # the adapters of one folder have the same paths
def stack_name(path: str, shape: tuple[int, int]) -> str:
    """Return the name of a module's stack: the path of its list of layers, with the module's shape.

    Only modules of one stack are averaged or drawn together.

    Args:
        path: dotted path of the module.
        shape: (out, in) of its weight.

    Example:
        >>> stack_name("bert.encoder.layer.3.attention.self.query", (384, 384)), stack_name("classifier", (2, 384))
        ('bert.encoder.layer 384x384', '2x384')
    """
    names = path.split(".")
    place = next((place for place, name in enumerate(names) if name.isdecimal()), 0)
    return f"{'.'.join(names[:place])} {shape[0]}x{shape[1]}".strip()


def stack_shape(stack: str) -> tuple[int, int] | None:
    """Return the shape that a stack's name states; None if it states none, several, or one of absurd size.

    Example:
        >>> stack_shape("bert.encoder.layer 384x1536"), stack_shape("unet.down_blocks 320x768/640x768")
        ((384, 1536), None)
    """
    sizes = stack.rpartition(" ")[2].split("x")
    known = len(sizes) == 2 and all(size.isdecimal() and len(size) <= _MOST_DIGITS for size in sizes)
    return (int(sizes[0]), int(sizes[1])) if known else None


def joint_stack(stacks: Iterable[str]) -> str:
    """Return the stack of a module type from those of its modules, whose shapes may differ between layers.

    Args:
        stacks: as `stack_name` gives them, at least one; the list of layers is that of the first.

    Example:
        >>> joint_stack(["unet.down_blocks 320x768", "unet.down_blocks 320x768", "unet.down_blocks 640x768"])
        'unet.down_blocks 320x768/640x768'
    """
    first, *others = dict.fromkeys(stacks)
    return "/".join([first, *(stack.rpartition(" ")[2] for stack in others)])


def _split(path: str, lists: set[str]) -> tuple[str, int | None, str]:
    """Stack, layer and rest of a path; the stack of a module outside any list is empty."""
    names = path.split(".")
    for place, name in enumerate(names):
        stack = ".".join(names[:place])
        if name.isdecimal() and stack in lists and place + 1 < len(names):
            return stack, int(name), ".".join(names[place + 1 :])
    return "", None, path


def _shortest_endings(paths: Collection[str]) -> dict[str, str]:
    """For each path its shortest ending that no other path has, else the whole path."""
    count: dict[str, int] = defaultdict(int)
    for path in paths:
        for ending in _endings(path):
            count[ending] += 1
    return {path: next((end for end in _endings(path) if count[end] == 1), path) for path in paths}


def _endings(path: str) -> list[str]:
    """The endings of a path, shortest first; none begins with a number or an expert."""
    names = path.split(".")
    starts = [start for start, name in enumerate(names) if not start or not name.removeprefix("expert").isdecimal()]
    return [".".join(names[start:]) for start in reversed(starts)]


def _prefixes(stacks: Collection[str]) -> dict[str, str]:
    """Prefix of the module types of each stack; none if there is only one stack."""
    if len(stacks) < 2:
        return {}
    return {stack: f"{_distinguishing_part(stack, stacks)}." for stack in stacks}


def _distinguishing_part(stack: str, stacks: Collection[str]) -> str:
    """The first name in which a stack differs from all others, else the whole path of the stack."""
    columns = [other.split(".") for other in stacks]
    for place, name in enumerate(stack.split(".")):
        here = [column[place] if place < len(column) else "" for column in columns]
        if here.count(name) == 1:
            return name
    return stack
