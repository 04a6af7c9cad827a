"""Adapters against each other: dense references, formats that name modules differently, and what is refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from msplora_analysis import load_updates, overlap
from msplora_analysis.directions.adapter_pairs import compare_adapters
from msplora_analysis.directions.findings import findings, merging
from msplora_core.components import ComponentKey
from msplora_core.errors import ComparisonError, UnsupportedAdapterError
from msplora_core.linalg import LowRankUpdate
from tests.analysis.directions.test_overlap import planted, write_adapter


def made(seed=0, rank=2, layers=3, width=24):
    random = np.random.default_rng(seed)
    return [
        LowRankUpdate(random.standard_normal((width, rank)), random.standard_normal((rank, width)))
        for _ in range(layers)
    ]


def dense(update):
    return update.scaling * update.B.astype(np.float64) @ update.A.astype(np.float64)


def pair(tmp_path, one, two):
    paths = [write_adapter(tmp_path / name, updates) for name, updates in (("one", one), ("two", two))]
    (found,) = compare_adapters([load_updates(path) for path in paths]).pairs
    return found


def test_numbers_of_dense_updates(tmp_path):
    one, two = made(), made(1, rank=3)
    found = pair(tmp_path, one, two)
    ours, theirs = (np.array([dense(update) for update in updates]) for updates in (one, two))
    cosine = (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert found.cosine == pytest.approx(cosine, abs=1e-6)
    assert found.kept[0] == pytest.approx(1 + (ours * theirs).sum() / (ours**2).sum(), abs=1e-6)
    rows = found.modules.set_index("layer")
    for layer in range(3):
        W, V = ours[layer], theirs[layer]
        left, right = np.linalg.qr(two[layer].B).Q, np.linalg.qr(two[layer].A.T).Q
        overwritten = np.square(left.T @ W @ right).sum() / np.square(W).sum()
        assert rows["overwritten"][layer] == pytest.approx(overwritten, abs=1e-6)
        assert rows["within_inputs"][layer] == pytest.approx(np.square(W @ right).sum() / np.square(W).sum(), abs=1e-6)
        expected = (W * V).sum() / np.linalg.norm(W) / np.linalg.norm(V)
        assert rows["cosine"][layer] == pytest.approx(expected, abs=1e-6)
    assert found.modules["conflict"].is_monotonic_decreasing


def test_an_opposed_module_comes_first(tmp_path):
    one, two = made(), made(1)
    two[1] = LowRankUpdate(-one[1].B, one[1].A)
    first = pair(tmp_path, one, two).modules.iloc[0]
    assert (first["layer"], round(first["cosine"], 6), round(first["overwritten"], 6)) == (1, -1, 1)


def test_the_nulls_are_the_means_over_random_adapters():
    found = [compare_adapters([adapter(made(2 * i)), adapter(made(2 * i + 1))]).pairs[0] for i in range(60)]
    cosines = np.array([one.cosine for one in found])
    assert np.std(cosines) == pytest.approx(np.mean([one.deviation for one in found]), rel=0.25)
    overwritten = np.mean([one.overwritten for one in found])
    assert overwritten == pytest.approx(np.mean([one.null for one in found]), rel=0.25)


def adapter(updates, prefix="", name="a", model=""):
    from pathlib import Path

    from msplora_analysis import AdapterUpdates

    keys = [ComponentKey("layer", "query", layer) for layer in range(len(updates))]
    places = {key: f"{prefix}encoder.layer.{key.unit}.self.query" for key in keys}
    return AdapterUpdates(name, "lora-r2", model, "", None, 0.0, 0, Path(name), dict(zip(keys, updates, strict=True)),
                          places, {"query": "encoder.layer 24x24"})  # fmt: skip


def test_modules_are_matched_by_the_end_of_their_paths():
    found = compare_adapters([adapter(made(), "roberta."), adapter(made())])
    assert len(found.pairs[0].modules) == 3
    assert found.pairs[0].equal
    assert found.notes == []


def test_a_name_that_ends_another_is_kept():
    found = compare_adapters([adapter(made(), name="all/lora"), adapter(made(1), name="lora")])
    assert found.names == ["all/lora", "lora"]


def test_modules_that_one_adapter_lacks_are_said():
    found = compare_adapters([adapter(made()), adapter(made(1)[:2], name="b")])
    assert len(found.pairs[0].modules) == 2
    assert found.notes == ["1 module only in a (encoder.layer.2.self.query): left out of pairs without them"]


def test_a_zero_adapter_has_no_cosine():
    zero = [LowRankUpdate(update.B * 0, update.A) for update in made()]
    found = compare_adapters([adapter(made()), adapter(zero, name="zero")])
    assert np.isnan(found.cosines[0, 1])
    assert np.isnan(found.cosines[1, 1])
    assert found.notes == ["zero: every update is zero, so it has no cosines"]


def test_equal_updates_of_some_modules_are_not_the_same_adapter():
    for layers, words in ((1, "the module"), (2, "the 2 modules")):
        (found,) = compare_adapters([adapter(made()), adapter(made()[:layers], name="b")]).pairs
        assert list(merging(found)) == [f"a and b have equal updates in {words} that both adapt."]
    (found,) = compare_adapters([adapter(made()), adapter(made(), name="b")]).pairs
    assert list(merging(found)) == ["a and b have equal updates: the same adapter twice."]


def test_a_zero_module_has_no_conflict_and_comes_last():
    one, two = made(), made(1)
    two[0] = LowRankUpdate(0 * two[0].B, two[0].A)
    two[1] = LowRankUpdate(-one[1].B, one[1].A)
    (found,) = compare_adapters([adapter(one), adapter(two, name="b")]).pairs
    assert found.modules["layer"].iloc[-1] == 0
    *_, last = merging(found)
    assert "Opposed: 1 of 2 modules; 1 more has a zero update. Strongest conflicts: query 1 (" in last
    assert "query 2" not in last  # like random updates
    assert "nan" not in last


def test_modules_that_agree_are_no_conflicts_and_a_slight_cosine_is_orthogonal():
    rounded = [LowRankUpdate(update.B.astype(np.float16), update.A) for update in made()]
    *_, last = merging(compare_adapters([adapter(made()), adapter(rounded, name="b")]).pairs[0])
    assert last.startswith("Opposed: 0 of 3 modules. No conflict is beyond chance.")
    one, other = np.eye(2000, 1), np.eye(2000, 1, -1)
    slight = LowRankUpdate(one - 0.005 * other, one.T), LowRankUpdate(other, one.T)
    found = compare_adapters([adapter([slight[0]]), adapter([slight[1]], name="b")]).pairs[0]
    first, *_, last = merging(found)
    assert first.startswith("a and b are orthogonal as a whole: cosine -0.0050; random updates have 0 ± 0.0005.")
    assert last.startswith("Opposed: 0 of 1 modules.")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (adapter(made(width=20), name="b"), "a has encoder.layer.0.self.query of shape 24 × 24, but b 20 × 20"),
        (adapter(made(), "vision.", name="b", model="vit"), "a adapts org/minilm, but b vit; compare adapters of"),
    ],
)
def test_adapters_of_other_models_are_refused(other, message):
    with pytest.raises(ComparisonError, match=message):
        compare_adapters([adapter(made(), model="org/minilm"), other])


def test_no_module_in_common():
    other = adapter(made(), name="b")
    other = type(other)(**{**vars(other), "places": {key: f"{path}.dense" for key, path in other.places.items()}})
    message = r"a adapts encoder.layer.0.self.query, .*, but b encoder.*query.dense, .*: no module in common"
    with pytest.raises(ComparisonError, match=message):
        compare_adapters([adapter(made()), other])


def test_overlap_takes_one_other_or_several(tmp_path):
    paths = [write_adapter(tmp_path / str(seed), planted(0.3, seed=seed)) for seed in range(3)]
    assert len(overlap(paths[0], with_=paths[1]).adapters.pairs) == 1
    found = overlap(paths[0], with_=paths[1:]).adapters
    assert found.names == ["0", "1", "2"]
    np.testing.assert_allclose(found.cosines, found.cosines.T)


def test_adapters_without_factors_in_a_folder_are_left_out_and_said(tmp_path):
    one = write_adapter(tmp_path / "one", planted(0.3))
    write_adapter(tmp_path / "folder" / "two", planted(0.3, seed=1))
    factor, loha = np.ones((64, 1), np.float32), tmp_path / "folder" / "loha"
    loha.mkdir()
    name = "base_model.model.encoder.layer.0.self.query.hada_w"
    factors = {f"{name}{i}_{side}": factor if side == "a" else factor.T.copy() for i in (1, 2) for side in "ab"}
    save_file(factors, loha / "adapter_model.safetensors")
    config = {"peft_type": "LOHA", "r": 1, "alpha": 1, "base_model_name_or_path": "minilm"}
    (loha / "adapter_config.json").write_text(json.dumps(config))
    found = overlap(one, with_=tmp_path / "folder")
    assert found.adapters.names == ["one", "two"]
    (message,) = found.skipped
    assert message.endswith("expected updates with low-rank factors, found those of loha-r1")
    with pytest.raises(UnsupportedAdapterError, match="found those of loha-r1"):
        overlap(one, with_=loha)


def test_a_zero_adapter_is_said_to_be_zero(tmp_path):
    zero = [LowRankUpdate(update.B * 0, update.A) for update in made()]
    for one, other, name in ((zero, made(), "one"), (made(), zero, "two"), (zero, zero, "one and of two")):
        (sentence,) = merging(pair(tmp_path / name.replace(" ", "-"), one, other))
        assert sentence.endswith(f"every update of {name} is zero where both have a module.")
    found = overlap(tmp_path / "two" / "two")
    assert list(findings(found.sharing, found.subspaces)) == ["query: at most one layer has a nonzero update."]


def test_notes_on_the_other_adapter_are_shown(tmp_path):
    one, other = (write_adapter(tmp_path / name, planted(0.3)) for name in ("one", "other"))
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    assert [note for note in overlap(one, with_=other).notes if note.startswith("DoRA")]
