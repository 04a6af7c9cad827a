"""The overlap of layers: planted structures, runs with snapshots, a published adapter."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from msplora_analysis import load_updates, overlap
from msplora_analysis.directions import run_directions
from msplora_analysis.directions.findings import by_module, findings
from msplora_core.components import Component, ComponentKey, layer_inner_products
from msplora_core.errors import ParameterError, RunDirectoryError, UnsupportedAdapterError
from msplora_core.linalg import LowRankUpdate
from msplora_core.runs import RunDirectory, RunRecord, Snapshot

MNLI = Path(__file__).parents[4] / "shared" / "adapters" / "microsoft-roberta-base-mnli"
WIDTH, LAYERS = 64, 6


def planted(shared, rank=2, seed=0):
    """Updates of equal norm, this share of whose energy is one update that all layers have."""
    random = np.random.default_rng(seed)

    def factors():
        B, A = (np.linalg.qr(random.standard_normal((WIDTH, rank))).Q for _ in range(2))
        return B, A.T

    B, A = factors()
    updates = []
    for _ in range(LAYERS):
        own_B, own_A = factors()
        updates.append(
            LowRankUpdate(np.hstack([B * shared**0.5, own_B * (1 - shared) ** 0.5]), np.vstack([A, own_A]), scaling=1.0)
        )
    return updates


def write_adapter(folder, updates, module="query", model="minilm", dtype=np.float32, size=1.0):
    folder.mkdir(parents=True, exist_ok=True)
    name = f"base_model.model.encoder.layer.{{}}.self.{module}.lora_{{}}.weight"
    tensors = {}
    for layer, update in enumerate(updates):
        tensors[name.format(layer, "A")] = np.ascontiguousarray(update.A * (update.scaling * size), dtype=dtype)
        tensors[name.format(layer, "B")] = np.ascontiguousarray(update.B * size, dtype=dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    rank = updates[0].rank
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "base_model_name_or_path": model}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def write_run(path, updates, method="lora-r4", task="mrpc", seed=0, adapter=True, epochs=2):
    """A run whose layers have these updates from the first epoch on, growing."""
    run = RunDirectory(path)
    scale = "layer" if method.startswith("lora") else "total"
    record = RunRecord(method=method, model="minilm", task=task, seed=seed, layers=LAYERS, modules=["query"])
    record.components = [
        {"key": f"{scale}/query/{layer}", "shape": [WIDTH, WIDTH], "stack": f"encoder.layer {WIDTH}x{WIDTH}"}
        for layer in range(LAYERS)
    ]
    run.write_record(record)
    for epoch in range(epochs + 1):
        grown = [
            Component(ComponentKey(scale, "query", layer), LowRankUpdate(one.B, one.A, one.scaling * epoch))
            for layer, one in enumerate(updates)
        ]
        spectra = {str(one.key): one.update.singular_values() for one in grown}
        run.write_snapshot(Snapshot(epoch, 10 * epoch, spectra, inner=layer_inner_products(grown)))
    if adapter:
        write_adapter(run.adapter_path, [LowRankUpdate(one.B, one.A, one.scaling * epochs) for one in updates])
    return run


def test_what_all_layers_share_is_found(tmp_path):
    found = overlap(write_adapter(tmp_path / "lora", planted(0.5)))
    (row,) = found.sharing.to_dict("records")
    expected = 0.5 + 0.5 / LAYERS
    assert row["shared_by_all"] == pytest.approx(expected, abs=0.03)
    assert row["excess"] == pytest.approx(0.5 - 0.5 / 2, abs=0.03)
    inputs = found.subspaces.set_index("side").loc["inputs"]
    assert inputs["common"] > 0.5 > inputs["null_common"]
    assert inputs["neighbours"] > 0.45 > 4 / WIDTH == inputs["chance"]
    (sentence,) = findings(found.sharing, found.subspaces)
    assert sentence.startswith("query: the layers share 0.2")
    assert "overlap on both sides" in sentence


def test_largest_cosines_of_several_runs_do_not_cancel():
    rows = [{"model": "m", "method": "lora-r2", "scale": "layer", "module": "query", "stack": "s", "run": run,
             "largest_cosine": value} for run, value in (("a", 0.4), ("b", -0.2))]  # fmt: skip
    assert by_module(pd.DataFrame(rows))["largest_cosine"].item() == pytest.approx(0.3)
    assert by_module(pd.DataFrame(rows[1:]))["largest_cosine"].item() == pytest.approx(-0.2)


def test_layers_that_share_nothing_are_said_to(tmp_path):
    found = overlap(write_adapter(tmp_path / "lora", planted(0.0)))
    (sentence,) = findings(found.sharing, found.subspaces)
    assert sentence.startswith("query: the layers share nothing (")
    assert "overlap like random ones" in sentence


def test_a_run_has_a_course_and_its_snapshots_agree_with_its_adapter(tmp_path):
    found = overlap(write_run(tmp_path / "run", planted(0.3)).path)
    course = found.course.set_index("epoch")
    assert course["shared_by_all"].isna()[0]
    names = ["shared_by_all", "shared_by_groups", "own", "excess", "largest_cosine"]
    for name in names:
        np.testing.assert_allclose(course[name][2], found.sharing[name].item(), atol=1e-6)
    assert found.sharing["epoch"].item() == 2


def test_a_run_without_its_adapter_gives_inner_products_alone(tmp_path):
    found = overlap(write_run(tmp_path / "run", planted(0.3), adapter=False).path)
    assert len(found.sharing) == 1
    assert found.sharing["cosine_bound"].notna().all()
    assert found.subspaces.empty
    assert any("inner products are known, but not subspaces" in note for note in found.notes)


def test_an_adapter_with_other_updates_than_its_run_is_not_mixed_with_it(tmp_path):
    """PiSSA saves B·A, and its update is what training changed."""
    recorded = overlap(write_run(tmp_path / "run", planted(0.3), adapter=False).path)
    run = write_run(tmp_path / "pissa", planted(0.3), adapter=False)
    write_adapter(run.adapter_path, [LowRankUpdate(one.B[:, :2], one.A[:2]) for one in planted(0.9)])
    found = overlap(run.path)
    assert found.sharing["own"].item() == recorded.sharing["own"].item()
    assert any("holds other updates than the run recorded" in note for note in found.notes)


def test_a_zero_layer_is_left_out_and_said(tmp_path):
    updates = planted(0.3)
    updates[2] = LowRankUpdate(updates[2].B * 0, updates[2].A)
    found = overlap(write_adapter(tmp_path / "lora", updates))
    cosines = found.runs[0].final[0].cosines.cosines
    assert np.isnan(cosines[2]).all()
    assert np.isfinite(np.delete(np.delete(cosines, 2, 0), 2, 1)).all()
    assert any("layer 2 of query" in note and "zero" in note for note in found.notes)


def test_a_zero_layer_changes_no_share(tmp_path):
    (same, *_), zero = planted(1.0), LowRankUpdate(np.zeros((WIDTH, 4)), np.zeros((4, WIDTH)))
    found = overlap(write_adapter(tmp_path / "lora", [zero, *[same] * (LAYERS - 1)]))
    np.testing.assert_allclose(found.sharing[["shared_by_all", "shared_by_groups", "own"]], [[1, 0, 0]], atol=1e-7)
    alone = overlap(write_adapter(tmp_path / "alone", [same, *[zero] * (LAYERS - 1)]))
    assert alone.sharing["excess"].isna().all()
    assert list(findings(alone.sharing, alone.subspaces)) == ["query: at most one layer has a nonzero update."]


def test_a_module_of_one_layer_is_named(tmp_path):
    folder = write_adapter(tmp_path / "lora", planted(0.3))
    path = folder / "adapter_model.safetensors"
    head = {f"base_model.model.pooler.dense.lora_{factor}.weight": np.ones((4, 4)) for factor in "AB"}
    save_file({**load_file(path), **head}, path)
    assert "lora: not compared, since only one layer has them: dense" in overlap(folder).notes


def test_updates_beyond_the_range_of_squares_are_compared(tmp_path):
    found = []
    for place, size in enumerate((1.0, 1e-90, 1e90)):
        folder = write_adapter(tmp_path / f"{place}", planted(0.3), dtype=np.float64, size=size)
        found.append(overlap(folder, with_=tmp_path / "0").adapters.pairs[0])
        sharing = overlap(folder).sharing
        np.testing.assert_allclose(sharing["own"].item(), overlap(tmp_path / "0").sharing["own"].item(), rtol=1e-12)
    for one in found:
        assert one.cosine == pytest.approx(1.0)
        assert one.overwritten == pytest.approx((1.0, 1.0))
    assert [one.equal for one in found] == [True, False, False]


def test_a_checkpoint_of_a_run_is_of_its_model(tmp_path):
    run = write_run(tmp_path / "mrpc-run", planted(0.3), adapter=False)
    record = run.read_record()
    for epoch in (1, 2):
        write_adapter(run.checkpoints_path / f"checkpoint-{epoch}", planted(0.3, seed=epoch), model="/models/7/model")
    pair = overlap(run.path, with_=run.checkpoints_path / "checkpoint-1").adapters.pairs[0]
    assert abs(pair.cosine) < 0.1
    one = load_updates(run.checkpoints_path / "checkpoint-1")
    assert (one.model, one.task, one.seed) == (record.model, record.task, record.seed)
    other = write_adapter(tmp_path / "other", planted(0.3, seed=3), model="/somewhere/minilm-l6")
    assert overlap(run.path, with_=other, model="minilm").adapters is not None


def test_one_layer_alone_cannot_be_compared(tmp_path):
    with pytest.raises(RunDirectoryError, match="two or more layers of a module type"):
        overlap(write_adapter(tmp_path / "lora", planted(0.3)[:1]))


def test_methods_without_directions_are_said_and_fail_nothing(tmp_path):
    for method, why in (("bitfit", "it changes no weight matrix"), ("full", "")):
        run = RunDirectory(tmp_path / "runs" / method)
        run.write_record(RunRecord(method=method, model="minilm", task="mrpc", seed=0, no_spectra=why))
        run.write_snapshot(Snapshot(1, 10, {} if why else {"layer/query/0": np.ones(3), "layer/query/1": np.ones(3)}))
    messages = {
        "bitfit": "BitFit has no spectra: it changes no weight matrix",
        "full": "expected an adapter of low rank, or snapshots with inner products, found singular values alone",
    }
    for method, message in messages.items():
        with pytest.raises(UnsupportedAdapterError, match=message):
            overlap(tmp_path / "runs" / method)
    write_run(tmp_path / "runs" / "lora", planted(0.3))
    found = overlap(tmp_path / "runs")
    assert [run.name for run in found.runs] == ["lora"]
    assert found.skipped == [f"{method}: {message}" for method, message in messages.items()]
    assert found.failed == []


def test_pairs_whose_cosines_cancel_are_said_beside_layers_that_share_nothing(tmp_path):
    layers = planted(0.0)  # each in the second half of its factors; the first is zero
    for layer, part in ((1, 0.3), (2, -0.3)):
        (B, A), (own_B, own_A) = ((one.B[:, 2:], one.A[2:]) for one in (layers[0], layers[layer]))
        layers[layer] = LowRankUpdate(np.hstack([part * B, own_B]), np.vstack([A, own_A]))
    found = overlap(write_adapter(tmp_path / "lora", layers), groups=1)
    (sentence,) = findings(found.sharing, found.subspaces)
    assert "the layers share nothing (0.16" in sentence
    assert "), but two of them have a cosine of " in sentence
    found = overlap(write_adapter(tmp_path / "none", planted(0.0)))
    assert "but two" not in next(findings(found.sharing, found.subspaces))


@pytest.mark.parametrize("count", [2, 3])
def test_a_few_equal_layers_share_everything(tmp_path, count):
    found = overlap(write_adapter(tmp_path / "few", planted(1.0)[:count]))
    assert found.sharing["excess"].to_numpy() == pytest.approx(1 - 1 / count, abs=0.01)
    assert next(findings(found.sharing, found.subspaces)).startswith("query: the layers share 0.")
    with pytest.raises(ParameterError, match=f"groups: expected fewer groups than the {count} layers of query"):
        overlap(tmp_path / "few", groups=count)


def test_groups_change_what_groups_share(tmp_path):
    path = write_adapter(tmp_path / "lora", planted(0.3))
    assert overlap(path, groups=1).sharing["shared_by_groups"].item() == pytest.approx(0.0, abs=1e-9)
    assert overlap(path, groups=(1,)).sharing["null_shared_by_groups"].item() == pytest.approx(1 / 6, abs=0.01)


def test_several_processes_find_the_same_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directions, "_MANY_DIRECTIONS", 1)
    for method in ("lora-r4", "msplora-2-2-2"):  # of one scale, and of two
        write_run(tmp_path / method, planted(0.5), method=method)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch", raising=False)  # with it nothing is forked
        two = overlap(tmp_path, n_jobs=2)
    pd.testing.assert_frame_equal(two.sharing, overlap(tmp_path).sharing)


def test_updates_are_read_by_layer(tmp_path):
    updates = planted(0.3)
    adapter = load_updates(write_run(tmp_path / "run", updates).path)
    layers = adapter.layers("query")
    assert list(layers) == list(range(LAYERS))
    np.testing.assert_allclose(layers[3].B @ layers[3].A, 2 * updates[3].B @ updates[3].A, atol=1e-6)
    write_adapter(tmp_path / "other", updates)
    with pytest.raises(RunDirectoryError, match="expected one adapter, found 2"):
        load_updates(tmp_path)


@pytest.mark.skipif(not MNLI.is_dir(), reason="no shared adapters beside the checkout")
def test_the_published_adapter_shares_nothing():
    pytest.importorskip("torch", reason="the adapter is a .bin")
    found = overlap(MNLI, alpha=16, model="roberta-base")
    shares = found.sharing[["shared_by_all", "shared_by_groups", "own"]]
    np.testing.assert_allclose(shares, [[1 / 12, 1 / 6, 3 / 4]] * 2, atol=5e-4)
    assert found.sharing["largest_cosine"].abs().max() < 0.01
    inputs, outputs = (found.subspaces[found.subspaces["side"] == side] for side in ("inputs", "outputs"))
    assert inputs["pairs"].iloc[0] == pytest.approx(0.026, abs=5e-4)
    np.testing.assert_allclose(inputs["chance"], 0.0104, atol=5e-5)
    np.testing.assert_allclose(outputs["pairs"], outputs["chance"], rtol=0.05)
    for sentence in findings(found.sharing, found.subspaces):
        assert "share nothing" in sentence
        assert "in their inputs only" in sentence
