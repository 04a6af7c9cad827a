"""All checks of an adapter or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msplora_core.checkup.adapter_check import layer_findings, pattern_findings, scaling_findings, sound_components
from msplora_core.checkup.finding import Finding, worst_first
from msplora_core.checkup.run_check import run_findings
from msplora_core.checkup.spectra_check import norm_findings, spectra_findings
from msplora_core.components import component_spectra
from msplora_core.formats import Adapter, read_adapter
from msplora_core.linalg.updates import DeferredUpdate, Update
from msplora_core.runs import RunDirectory


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The result of all checks.

    Args:
        findings: the most severe first.
        spectra: singular values by component key, of the finite components; empty for a full fine-tune.
    """

    findings: list[Finding]
    spectra: Mapping[str, NDArray[np.float64]]


def findings(adapter: str | PathLike[str] | Adapter) -> list[Finding]:
    """Check an adapter for defects of its values, sizes, ranks and configuration.

    Finds updates that were never trained, are not finite, exploded (20 times the median norm of their kind, or more
    than any model's weights), were rounded to zero in half precision, or are copies of each other; updates of
    effectively one direction, and unused ranks; layers missing from a stack; an unusual scaling; patterns in
    `adapter_config.json` that match no module; and a diverged loss of a run directory.

    Args:
        adapter: an adapter, its folder or file, or a run directory.

    Returns:
        Findings, the most severe first; none for a sound adapter.

    Raises:
        FileError: if it cannot be read. NaN and infinity are findings, not errors.

    Example:
        >>> import json, tempfile, numpy as np
        >>> from safetensors.numpy import save_file
        >>> folder = Path(tempfile.mkdtemp())
        >>> name = "base_model.model.layers.0.q_proj.lora_{}.weight"
        >>> save_file({name.format("A"): np.eye(2, 6), name.format("B"): np.zeros((6, 2))},
        ...           folder / "adapter_model.safetensors")
        >>> _ = (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
        >>> print(*findings(folder))
        broken: never trained: all modules: every update is zero; train it, or save it after training
    """
    if not isinstance(adapter, Adapter):
        path = Path(adapter)
        adapter = read_adapter(RunDirectory(path).adapter_path if RunDirectory.is_run(path) else path)
    return diagnose(adapter).findings


def diagnose(adapter: Adapter) -> Diagnosis:
    """Return the findings of an adapter and its spectra; see `findings`."""
    found: list[Finding] = []
    components, spectra = sound_components(adapter, found), dict[str, NDArray[np.float64]]()
    if adapter.method == "full":
        found += norm_findings({str(one.key): _norm(one.update) for one in components})
    else:
        spectra = component_spectra(components)
        found += spectra_findings(spectra, pruned=adapter.method.startswith("adalora"))
    found += file_findings(adapter)
    run = RunDirectory(adapter.path.parent)
    if adapter.path == run.adapter_path and RunDirectory.is_run(run.path):
        found += run_findings(run)
    return Diagnosis(worst_first(found), spectra)


def value_findings(adapter: Adapter) -> list[Finding]:
    """Return what an adapter's values, shapes, scalings and configuration show, without its spectra."""
    found: list[Finding] = []
    for _ in sound_components(adapter, found):
        pass
    return [*found, *file_findings(adapter)]


def _norm(update: Update) -> float:
    """The Frobenius norm, without the SVD of a dense update."""
    values = update.form().astype(np.float64) if isinstance(update, DeferredUpdate) else update.singular_values()
    return float(np.linalg.norm(values))


def file_findings(adapter: Adapter) -> list[Finding]:
    """Return the findings on shapes, scalings and configuration of an adapter, without reading its values."""
    patterns = pattern_findings(adapter, adapter.config) if adapter.config is not None else ()
    return [*scaling_findings(adapter, adapter.config), *layer_findings(adapter), *patterns]
