"""What is wrong with the files of adapters is found beside their spectra, as `inspect` finds it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_analysis import analyse
from msplora_core.checkup import findings
from tests.analysis.conftest import write_run

NAME = "base_model.model.encoder.layer.{}.self.query.lora_{}.weight"


def save(folder: Path, *, size: float = 1.0, dtype: type[np.floating] = np.float32, spoilt: bool = False) -> Path:
    """An adapter of four layers."""
    random = np.random.default_rng(0)
    tensors = {NAME.format(layer, side): random.standard_normal((24, 4) if side == "B" else (4, 24)).astype(dtype)
               for layer in range(4) for side in "AB"}  # fmt: skip
    tensors[NAME.format(1, "B")] *= dtype(size)
    if spoilt:
        tensors[NAME.format(2, "A")][0, 0] = np.nan
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_what_half_precision_rounded_away_is_found(tmp_path: Path) -> None:
    place = save(tmp_path / "half", size=2e-5, dtype=np.float16)
    found = analyse(place, draws=0).findings
    expected = [(one.severity, one.kind, one.module, one.says) for one in findings(place)]
    assert ("doubtful", "rounded away", "layer/query/1") in [one[:3] for one in expected]
    assert list(found[["severity", "kind", "module", "says"]].itertuples(index=False, name=None)) == expected


def test_a_file_named_by_its_path_is_checked_as_its_folder_is(tmp_path: Path) -> None:
    place = save(tmp_path / "half", size=2e-5, dtype=np.float16)
    of_folder, of_file = (analyse(path, draws=0).findings for path in (place, place / "adapter_model.safetensors"))
    assert of_file["says"].tolist() == of_folder["says"].tolist()


@pytest.mark.filterwarnings("ignore:left out")
def test_an_adapter_with_nan_is_a_finding_of_the_study(tmp_path: Path) -> None:
    save(tmp_path / "study" / "sound")
    save(tmp_path / "study" / "spoilt", spoilt=True)
    found = analyse(tmp_path / "study", draws=0).findings
    first = found.iloc[0]
    assert (first["run"], first["severity"], first["kind"]) == ("spoilt", "broken", "not finite")
    assert first["module"] == NAME.format(2, "A")


def test_the_adapter_that_a_run_saved_is_checked_beside_its_snapshots(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "lora-r4", layers=4, modules=("query",))
    save(run.adapter_path, spoilt=True)
    found = analyse(run.path, draws=0).findings
    assert ("broken", "not finite", "layer/query/2") in list(
        found[["severity", "kind", "module"]].itertuples(index=False, name=None)
    )
