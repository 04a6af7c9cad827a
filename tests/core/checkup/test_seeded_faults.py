"""Faults put into sound adapters of five formats: each is found every time, and nothing broken where none was put."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from msplora_core import findings
from msplora_core.checkup.finding import summarised
from msplora_core.checkup.spectra_check import spectra_findings
from msplora_core.formats import find_runs, read_adapter

LAYERS = 6
SHARED = Path(__file__).parents[4] / "shared" / "adapters"


@dataclass
class Made:
    """Factors A and B by layer and module, with what the formats write beside them."""

    factors: dict[tuple[int, str], list[NDArray[Any]]]
    alpha: float = 8.0
    config: dict[str, Any] = field(default_factory=dict)


def sound(seed: int) -> Made:
    random, decay = np.random.default_rng(seed), np.array([[1.0], [0.8], [0.6], [0.5]], "f4")
    return Made({
        (layer, name): [
            (decay * random.standard_normal((4, 16))).astype("f4"), 0.1 * random.standard_normal((12, 4)).astype("f4")
        ]
        for layer in range(LAYERS) for name in ("q_proj", "v_proj")
    })  # fmt: skip


def peft_lora(folder: Path, made: Made, **extra: Any) -> Path:
    tensors = {}
    for (layer, name), (A, B) in made.factors.items():
        path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
        tensors |= {f"{path}.lora_A.weight": A, f"{path}.lora_B.weight": B}
    return peft(folder, tensors, {"peft_type": "LORA", "r": 4, "lora_alpha": made.alpha, **made.config})


def peft_adalora(folder: Path, made: Made) -> Path:
    tensors = {}
    for (layer, name), (A, B) in made.factors.items():
        path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
        E = np.linspace(1, 0.5, 4, dtype="f4")[:, None]
        tensors |= {f"{path}.lora_A": A, f"{path}.lora_B": B, f"{path}.lora_E": E}
    return peft(folder, tensors, {"peft_type": "ADALORA", "r": 4, "lora_alpha": made.alpha, **made.config})


def peft(folder: Path, tensors: dict[str, NDArray[Any]], config: dict[str, Any]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj", "v_proj"]}))
    return folder


def kohya(folder: Path, made: Made) -> Path:
    tensors = {}
    for (layer, name), (A, B) in made.factors.items():
        path = f"lora_te_text_model_encoder_layers_{layer}_self_attn_{name}"
        tensors |= {f"{path}.lora_down.weight": A, f"{path}.lora_up.weight": B}
        tensors[f"{path}.alpha"] = np.array(made.alpha, "f4")
    return single(folder, tensors)


def loralib(folder: Path, made: Made) -> Path:
    tensors = {}
    for (layer, name), (A, B) in made.factors.items():
        path = f"encoder.layer.{layer}.attention.self.{name}"
        tensors |= {f"{path}.lora_A": A, f"{path}.lora_B": B}
    return single(folder, tensors)


def diffusers(folder: Path, made: Made) -> Path:
    tensors = {}
    for (layer, name), (A, B) in made.factors.items():
        path = f"text_encoder.text_model.encoder.layers.{layer}.self_attn.{name}"
        tensors |= {f"{path}.lora_linear_layer.down.weight": A, f"{path}.lora_linear_layer.up.weight": B}
    return single(folder, tensors)


def single(folder: Path, tensors: dict[str, NDArray[Any]]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "weights.safetensors")
    return folder / "weights.safetensors"


FORMATS = [peft_lora, peft_adalora, kohya, loralib, diffusers]
Put = Callable[[Made], None]


def never_trained(made: Made) -> None:
    for pair in made.factors.values():
        pair[1] = np.zeros_like(pair[1])


def not_finite(made: Made) -> None:
    made.factors[2, "v_proj"][0][1, 3] = np.nan


def infinite(made: Made) -> None:
    made.factors[0, "q_proj"][1][0, 0] = np.inf


def one_module_exploded(made: Made) -> None:
    made.factors[3, "q_proj"][1] *= 1e6


def all_exploded(made: Made) -> None:
    for pair in made.factors.values():
        pair[1] = pair[1] * np.float32(1e38)


def one_module_untrained(made: Made) -> None:
    made.factors[4, "v_proj"][1][:] = 0


def spike(made: Made) -> None:
    A, _ = made.factors[1, "q_proj"]
    A[1:] *= 1e-4


def few_ranks(made: Made) -> None:
    A, _ = made.factors[1, "q_proj"]
    A[1:] *= 0.03


def copied(made: Made) -> None:
    made.factors[5, "v_proj"] = [factor.copy() for factor in made.factors[1, "v_proj"]]


def layer_lost(made: Made) -> None:
    del made.factors[3, "v_proj"]


def last_layer_lost(made: Made) -> None:
    del made.factors[5, "q_proj"]


def rounded(made: Made) -> None:
    for pair in made.factors.values():
        pair[1] = (pair[1] * 1e-5).astype("f2")
        pair[0] = pair[0].astype("f2")


FAULTS: list[tuple[Put, str, str]] = [
    (never_trained, "broken", "never trained"),
    (not_finite, "broken", "not finite"),
    (infinite, "broken", "not finite"),
    (one_module_exploded, "broken", "exploded"),
    (all_exploded, "broken", "exploded"),
    (one_module_untrained, "doubtful", "never trained"),
    (spike, "doubtful", "rank 1 alone"),
    (few_ranks, "note", "unused ranks"),
    (copied, "doubtful", "a copy"),
    (layer_lost, "doubtful", "layer missing"),
    (last_layer_lost, "doubtful", "layer missing"),
    (rounded, "doubtful", "rounded away"),
]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
@pytest.mark.parametrize(("put", "severity", "kind"), FAULTS, ids=[put.__name__ for put, _, _ in FAULTS])
def test_every_fault_is_found(tmp_path: Path, write: Any, put: Put, severity: str, kind: str) -> None:
    for seed in range(3):
        made = sound(seed)
        put(made)
        found = findings(write(tmp_path / str(seed), made))
        if write is peft_adalora and put is one_module_untrained:  # there, zero is what pruning makes
            severity, kind = "note", "pruned to rank 0"
        assert (severity, kind) in {(one.severity, one.kind) for one in found}
        order = ["broken", "doubtful", "note"]
        assert [one.severity for one in found] == sorted((one.severity for one in found), key=order.index)
        if severity != "broken":
            assert not [one for one in found if one.severity == "broken"]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_sound_adapters_have_no_findings(tmp_path: Path, write: Any) -> None:
    for seed in range(3):
        assert findings(write(tmp_path / str(seed), sound(seed))) == []


def test_the_module_and_the_number_are_named(tmp_path: Path) -> None:
    made = sound(0)
    one_module_exploded(made)
    (exploded,) = findings(peft_lora(tmp_path / "a", made))
    A, B = made.factors[3, "q_proj"]
    assert exploded.module == "layer/q_proj/3"
    assert exploded.value == pytest.approx(2 * np.linalg.norm(B.astype("f8") @ A), rel=1e-9)
    assert str(exploded).startswith("broken: exploded: layer/q_proj/3: norm ")


def test_the_largest_of_several_exploded_modules_is_named_first(tmp_path: Path) -> None:
    made = sound(0)
    one_module_exploded(made)
    made.factors[5, "q_proj"][1] *= 1e8
    assert [one.module for one in findings(peft_lora(tmp_path / "a", made))] == ["layer/q_proj/5", "layer/q_proj/3"]


def test_what_a_configuration_can_have_wrong(tmp_path: Path) -> None:
    made = sound(0)
    made.config = {"rank_pattern": {"k_proj": 8, "q_proj": 4}, "alpha_pattern": {"layers.9.q_proj": 8}}
    found = findings(peft_lora(tmp_path / "patterns", made))
    assert summarised(found) == [
        "doubtful: pattern without module: rank_pattern 'k_proj', alpha_pattern 'layers.9.q_proj': no module matches "
        "it in adapter_config.json; correct it; the default applies instead"
    ]
    made.config, made.alpha = {"use_rslora": True}, 64.0  # α = 32 times √r already
    found = findings(peft_lora(tmp_path / "twice", made))
    assert {one.kind for one in found} == {"unusual scaling"}
    assert found[0].says == "scaling 32, usually 1 or 2"
    assert found[0].advice == "use_rslora is set: check whether alpha includes √r already; alpha/r is 16"
    made.config, made.alpha = {}, 0.001
    assert {one.kind for one in findings(peft_lora(tmp_path / "small", made))} == {"unusual scaling"}


def test_an_msplora_of_unequal_ranks_is_checked_by_scale(tmp_path: Path) -> None:
    torch, peft_ = pytest.importorskip("torch"), pytest.importorskip("peft")
    from msplora_core import MSPLoraConfig

    def saved(name: str, pattern: dict[str, tuple[int, int, int]]) -> Path:
        torch.manual_seed(0)
        layers = (torch.nn.ModuleDict({"q": torch.nn.Linear(12, 12), "v": torch.nn.Linear(12, 12)}) for _ in range(3))
        config = MSPLoraConfig(
            ranks=(4, 3, 2), target_modules=["q", "v"], rank_pattern=pattern, init_lora_weights=False
        )
        peft_.get_peft_model(torch.nn.ModuleDict({"layers": torch.nn.ModuleList(layers)}), config).save_pretrained(
            tmp_path / name
        )
        return tmp_path / name

    assert findings(saved("unequal", {"v": (2, 2, 1)})) == []
    found = findings(saved("other", {"v": (2, 2, 1), "k": (1, 1, 1)}))
    assert [one.module for one in found] == ["rank_pattern 'k'"]


def test_all_ranks_pruned(tmp_path: Path) -> None:
    made = sound(0)
    never_trained(made)
    (found,) = findings(peft_adalora(tmp_path / "a", made))
    assert (found.severity, found.says) == ("broken", "all ranks are pruned")


def test_layers_left_out_on_purpose_are_no_finding(tmp_path: Path) -> None:
    made = sound(0)
    for layer in (0, 2, 4):
        del made.factors[layer, "q_proj"]
    assert findings(peft_lora(tmp_path / "every second", made)) == []


Tensors = dict[str, NDArray[Any]]

FULL_FAULTS: list[tuple[str, str, str, Callable[[Tensors, Tensors], object]]] = [
    ("broken", "never trained", "all modules", lambda tuned, base: tuned.update(base)),
    ("broken", "not finite", "layer/q/2", lambda tuned, base: tuned["layers.2.q.weight"].fill(np.nan)),
    ("broken", "exploded", "layer/q/2", lambda tuned, base: np.multiply(tuned["layers.2.q.weight"], 1e6,
                                                                        out=tuned["layers.2.q.weight"])),
    ("doubtful", "never trained", "layer/q/2", lambda tuned, base: tuned.update(
        {"layers.2.q.weight": base["layers.2.q.weight"]})),
]  # fmt: skip


@pytest.mark.parametrize(("severity", "kind", "module", "damage"), FULL_FAULTS)
def test_a_full_fine_tune_is_checked_against_its_base(
    tmp_path: Path, severity: str, kind: str, module: str, damage: Callable[[Tensors, Tensors], object]
) -> None:
    random = np.random.default_rng(0)
    base = {f"layers.{layer}.q.weight": random.standard_normal((12, 10)).astype("f4") for layer in range(5)}
    tuned = {name: weight + 0.01 * random.standard_normal((12, 10)).astype("f4") for name, weight in base.items()}
    for name, weights in (("base", base), ("sound", tuned)):
        (tmp_path / name).mkdir()
        save_file(weights, tmp_path / name / "model.safetensors")
    assert findings(read_adapter(tmp_path / "sound", base=tmp_path / "base")) == []
    damage(tuned, base)
    save_file(tuned, tmp_path / "sound" / "model.safetensors")
    found = findings(read_adapter(tmp_path / "sound", base=tmp_path / "base"))
    assert [(one.severity, one.kind, one.module) for one in found] == [(severity, kind, module)]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared adapters are not beside the checkout")
def test_nothing_is_broken_in_adapters_that_others_trained() -> None:
    found = {}
    for opened in find_runs(SHARED):
        path = opened().checkpoints[-1].path
        found[path.name] = [str(one) for one in findings(read_adapter(path)) if one.severity != "note"]
    assert len(found) == 8
    assert not any(found.values()), found


def test_ranks_that_hold_a_share_up_to_rounding_are_counted_as_elsewhere() -> None:
    [finding] = spectra_findings({"layer/q_proj/0": np.sqrt([0.99, *[0.01 / 3] * 3])})
    assert finding.says == "1 of 4 ranks hold 99% of the energy"
