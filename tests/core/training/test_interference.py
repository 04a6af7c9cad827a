"""Cosines between the steps of the scales, and between the gradients of the layers that share a component."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from peft import LoraConfig, get_peft_model

from msplora_core import MSPLoraConfig
from msplora_core.adapter.layer import MSPLoraLayer
from msplora_core.errors import ParameterError
from msplora_core.runs import RunDirectory
from msplora_core.training import RunConfig, SpectralSnapshotCallback, TaskData, train_run
from msplora_core.training.interference import InterferenceRecorder

SCALES = ("global", "mid", "layer")


def adapted(ranks: tuple[int, int, int] = (3, 2, 1), **options: Any) -> Any:
    """A random BERT of four layers in two groups, in float64, with query and value adapted."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    options = {"init_lora_weights": False, "target_modules": ["query", "value"], **options}
    model = get_peft_model(
        BertForSequenceClassification(config).double(), MSPLoraConfig(ranks=ranks, groups=2, **options)
    )
    return model.double().train()


def batch() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(0, 50, (6, 9)), "labels": torch.randint(0, 2, (6,))}


def layers_of(model: Any) -> dict[tuple[str, int], MSPLoraLayer]:
    """By module type and layer."""
    found = [module for module in model.modules() if isinstance(module, MSPLoraLayer)]
    return {(layer.site["default"].module, layer.site["default"].layer or 0): layer for layer in found}


def factors(layer: MSPLoraLayer, scale: str) -> tuple[torch.Tensor, torch.Tensor, float]:
    A, B = layer.components(scale)["default"]()
    return A.detach().clone(), B.detach().clone(), layer.scaling["default"][scale]


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one * other).sum() / one.norm() / other.norm())


def optimiser_of(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2, weight_decay=0.1)


def recorded_step(model: Any, recorder: InterferenceRecorder, batches: list[dict[str, torch.Tensor]]) -> None:
    optimiser = optimiser_of(model)
    recorder.watch()
    for each in batches:
        model(**each).loss.backward()
    recorder.before_step()
    optimiser.step()
    recorder.after_step()


def test_cosines_between_scales_are_those_of_dense_steps() -> None:
    model = adapted()
    before = {(*place, scale): factors(layer, scale) for place, layer in layers_of(model).items() for scale in SCALES}
    recorder = InterferenceRecorder(model)
    recorded_step(model, recorder, [batch()])
    found = recorder.between_scales()
    assert len(found) == 2 * 4 * 3
    for (module, index), layer in layers_of(model).items():
        steps = {}
        for scale in SCALES:
            (old_A, old_B, scaling), (new_A, new_B, _) = before[module, index, scale], factors(layer, scale)
            steps[scale] = scaling * ((new_B - old_B) @ old_A + old_B @ (new_A - old_A))
        for one, other in combinations(SCALES, 2):
            mean, spread = found[f"{one}-{other}/{module}/{index}"]
            assert_allclose(mean, cosine(steps[one], steps[other]), rtol=1e-9, atol=1e-12)
            assert spread == 0


def test_cosines_between_layers_are_those_of_each_layers_own_gradient() -> None:
    """Reference: the gradient G of a zero matrix added to each base weight gives s·Bᵀ·G for A and s·G·Aᵀ for B."""
    model, batches = adapted(), [batch(), batch()]  # two micro-batches
    recorder = InterferenceRecorder(model)
    dense = {}
    for place, layer in layers_of(model).items():
        dense[place] = torch.zeros(16, 16, dtype=torch.float64, requires_grad=True)
        layer.base_layer.register_forward_hook(lambda _, args, out, E=dense[place]: out + args[0] @ E.T)
    values = {(*place, scale): factors(layer, scale) for place, layer in layers_of(model).items() for scale in SCALES}
    recorded_step(model, recorder, batches)
    found = recorder.between_layers()
    assert set(found) == {f"{key}/{module}/{unit}" for key, unit in (("global", 0), ("mid", 0), ("mid", 1))
                          for module in ("query", "value")}  # fmt: skip
    for key, (mean, spread) in found.items():
        scale, module, unit = key.split("/")
        members = range(4) if scale == "global" else range(2 * int(unit), 2 * int(unit) + 2)
        sent = []
        for index in members:
            A, B, scaling = values[module, index, scale]
            G = dense[module, index].grad
            sent.append(scaling * torch.cat([(B.T @ G).flatten(), (G @ A.T).flatten()]))
        assert_allclose(mean, [[cosine(one, other) for other in sent] for one in sent], rtol=1e-9, atol=1e-12)
        assert not spread.any()
        component = layers_of(model)[module, members[0]].components(scale)["default"]
        whole = torch.cat([component.A.grad.flatten(), component.B.grad.flatten()])
        assert_allclose(whole, sum(sent), rtol=1e-9, atol=1e-12)


def test_mean_and_spread_over_steps_and_what_is_watched() -> None:
    model = adapted()
    recorder = InterferenceRecorder(model)
    recorder.before_step()
    recorder.after_step()
    assert recorder.between_scales() == recorder.between_layers() == {}
    single = []
    for _ in range(3):
        recorded_step(model, recorder, [batch()])
    together = recorder.between_scales()["global-layer/value/2"]
    torch.manual_seed(0)
    model = adapted()
    for _ in range(3):
        alone = InterferenceRecorder(model)
        recorded_step(model, alone, [batch()])
        single.append(alone.between_scales()["global-layer/value/2"][0])
    assert_allclose(together, [np.mean(single), np.std(single)], rtol=1e-9)
    assert not any(layer._forward_pre_hooks for layer in layers_of(model).values())
    recorder.forget()
    assert recorder.between_scales() == {}


def test_equal_and_opposed_steps() -> None:
    """Scales with equal factors step alike: cosine 1. With B of the other sign for one of them: 1 again, as A turns."""
    model = adapted((2, 2, 2))
    with torch.no_grad():
        for layer in layers_of(model).values():
            for scale in SCALES:
                layer.components(scale)["default"].A.copy_(torch.eye(2, 16))
                layer.components(scale)["default"].B.copy_(torch.eye(16, 2))
    recorder = InterferenceRecorder(model)
    optimiser = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    recorder.watch()
    model(**batch()).loss.backward()
    recorder.before_step()
    with torch.no_grad():
        for layer in layers_of(model).values():
            own = layer.components("layer")["default"]
            for scale, sign in (("mid", 1), ("global", -1)):
                shared = layer.components(scale)["default"]
                shared.A.grad, shared.B.grad = sign * own.A.grad, sign * own.B.grad
    optimiser.step()
    recorder.after_step()
    last = {key: value[0] for key, value in recorder.between_scales().items() if key.endswith("/3")}
    assert_allclose([last["mid-layer/query/3"], last["global-layer/query/3"]], [1, -1], rtol=1e-9)


def test_what_has_no_direction_is_left_out() -> None:
    model = adapted(init_lora_weights=True)  # B = 0: no step and no gradient of A, but of B
    recorder = InterferenceRecorder(model)
    recorder.watch()
    model(**batch()).loss.backward()
    recorder.before_step()
    recorder.after_step()  # the optimiser was skipped, as after an overflow
    assert recorder.between_scales() == {}
    assert set(recorder.between_layers()) == {f"{c}/{m}" for m in ("query/0", "value/0") for c in ("global", "mid")} | {
        "mid/query/1", "mid/value/1"}  # fmt: skip


@pytest.mark.parametrize("ranks", [(4, 0, 0), (0, 2, 1)])
def test_scales_that_are_not_there(ranks: tuple[int, int, int]) -> None:
    model = adapted(ranks)
    recorder = InterferenceRecorder(model)
    recorded_step(model, recorder, [batch()])
    assert {key.split("/")[0] for key in recorder.between_scales()} == ({"mid-layer"} if ranks[1] else set())
    assert {key.split("/")[0] for key in recorder.between_layers()} == ({"mid"} if ranks[1] else {"global"})


def test_frozen_scales_and_checkpointed_layers() -> None:
    from msplora_core import set_trainable_scales

    model = adapted()
    set_trainable_scales(model, ["mid", "layer"])
    recorder = InterferenceRecorder(model)
    recorded_step(model, recorder, [batch()])
    assert {key.split("/")[0] for key in recorder.between_layers()} == {"mid"}
    assert {key.split("/")[0] for key in recorder.between_scales()} == {"mid-layer"}
    found = []
    for options in (None, {"use_reentrant": True}, {"use_reentrant": False}):
        model = adapted()
        torch.manual_seed(3)
        if options:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        recorder = InterferenceRecorder(model)
        recorded_step(model, recorder, [batch()])
        found.append(recorder.between_layers())
    for other in found[1:]:
        assert found[0].keys() == other.keys()
        for key, values in found[0].items():
            assert_allclose(values, other[key], rtol=1e-9, atol=1e-12)


def test_plain_lora_has_none() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    base = BertForSequenceClassification(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    )
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query"]))
    recorder = InterferenceRecorder(model)
    recorded_step(model, recorder, [batch()])
    assert recorder.between_scales() == recorder.between_layers() == {}


def test_a_run_records_it_and_trains_the_same(tiny_model: Path, few: TaskData, tmp_path: Path) -> None:
    runs = {}
    for interference in (False, True):
        config = RunConfig(
            task="acceptability", ranks=(2, 2, 2), model=str(tiny_model), batch_size=2, epochs=2,
            out=tmp_path / str(interference), interference=interference,
        )  # fmt: skip
        runs[interference] = train_run(config, data=few)
    plain, watched = (list(run.snapshots()) for run in runs.values())
    for one, other in zip(plain, watched, strict=True):
        for key, sigma in one.spectra.items():
            assert (sigma == other.spectra[key]).all(), key
        assert one.between_scales == one.between_layers == {}
    assert watched[0].between_scales == {}
    assert set(watched[1].between_layers) == {f"global/{module}/0" for module in ("query", "value")}
    assert len(watched[1].between_scales) == 2 * 3 * 3
    assert watched[1].between_scales["global-mid/query/0"].shape == (2,)
    assert runs[True].read_record().hyperparameters["interference"] is True


def test_every_n_steps_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="interference: expected True, False, or at least 1, found 0"):
        SpectralSnapshotCallback(tmp_path, interference=0)
    assert SpectralSnapshotCallback(RunDirectory(tmp_path), interference=1).interference_every == 1
