"""A plan as arguments of sd-scripts (kohya)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msplora_analysis.planning.plan_targets import PlanTargets
from msplora_analysis.planning.rank_plan import Plan
from msplora_analysis.planning.trainer_fields import module_ranks
from msplora_analysis.planning.unet_blocks import block_ranks

_HEAD = """\
# sd-scripts: networks.lora_anima and networks.lora_flux take ranks by regular expression; the first match counts.
# lora_anima matches the path of a module, lora_flux its flat name (lora_unet_...); these patterns match both. The last
# one, .*=0, excludes all modules that are not in the plan. network_reg_alphas is of some versions of lora_anima; where
# it is ignored, as in lora_flux, --network_alpha holds for all modules, and alpha/r differs between them.
""".splitlines()


def kohya_lines(plan: Plan, targets: PlanTargets) -> Iterator[str]:
    """Yield the lines of `kohya.txt`.

    Args:
        plan: the ranks, of LoRA.
        targets: the modules by their paths; the modules of all models of a pipeline are in one argument.
    """
    ranks, alphas = module_ranks(plan, targets)
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    names = {path: path.partition(".")[2] if targets.models else path for path in ranks}
    keys = {path: f"^(.*_)?{name.replace('.', '[._]')}$" for path, name in names.items() if ranks[path]}
    yield from _HEAD
    dims = _pairs({keys[path]: ranks[path] for path in keys} | {".*": 0})
    reg_alphas = _pairs({keys[path]: alphas[path] for path in keys})
    arguments = f"--network_args 'network_reg_dims={dims}' 'network_reg_alphas={reg_alphas}'"
    yield f"--network_dim={rank or 1} --network_alpha={alpha:g} {arguments}"
    unet = [path for path in ranks if path.startswith("unet.") or not targets.models]
    narrow = block_ranks({names[path]: ranks[path] for path in unet if path not in targets.convolutions})
    wide = block_ranks({names[path]: ranks[path] for path in unet if path in targets.convolutions})
    if narrow:
        first = next(iter(keys))
        scaling = alphas[first] / ranks[first]
        yield ""
        yield "# networks.lora (SD 1, SD 2, SDXL) takes no patterns, but a rank for each block of the U-Net: the mean"
        yield f"# over the modules of each of the {len(narrow)} blocks, rounded up; 0 where there are none."
        lists = {"block": narrow} | ({"conv_block": wide} if wide else {})
        yield " ".join(["--network_args", *(_block_lists(name, blocks, scaling) for name, blocks in lists.items())])


def _block_lists(name: str, blocks: Sequence[int], scaling: float) -> str:
    scaled = ",".join(f"{scaling * one:g}" for one in blocks)
    return f"'{name}_dims={','.join(map(str, blocks))}' '{name}_alphas={scaled}'"


def _pairs(values: Mapping[str, float]) -> str:
    return ",".join(f"{key}={value:g}" for key, value in values.items())
