"""Adapted parameters, as PEFT's own tests of `target_parameters` ask of LoRA: experts of mixtures, and matrices."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.utils import parametrize
from transformers import GptOssConfig, GptOssForCausalLM, MixtralConfig, MixtralForCausalLM

from msplora_core import read_adapter
from msplora_core.adapter import MSPLoraConfig, read_components
from msplora_core.adapter.extraction import layer_updates
from msplora_core.adapter.parameter_layer import ParamWrapper
from msplora_core.conversion import convert_to_lora
from msplora_core.conversion.disk import convert_adapter
from msplora_core.conversion.sharing_fit import convert_to_pyramid
from msplora_core.errors import AdapterFileError, FileError, ParameterError, UnsupportedAdapterError
from msplora_core.training.interference import InterferenceRecorder

SIZES = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "num_local_experts": 3, "num_experts_per_tok": 2, "pad_token_id": 0}  # fmt: skip
TOKENS = torch.randint(5, 40, (2, 6), generator=torch.Generator().manual_seed(0))
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
DOWN, UP = "mlp.experts.down_proj", "mlp.experts.gate_up_proj"

CASES = {
    "one parameter": {"target_modules": [], "target_parameters": [DOWN]},
    "two of one module": {"target_modules": [], "target_parameters": [UP, DOWN]},
    "a parameter and modules": {"target_modules": ["q_proj", "v_proj"], "target_parameters": [DOWN]},
    "two of different layers": {"target_modules": [], "target_parameters": [f"0.{UP}", f"1.{DOWN}"]},
}


@pytest.fixture(params=["gpt-oss", "mixtral"])
def make(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    """Makes a mixture; the experts of GPT-OSS are in × out, those of Mixtral out × in."""

    def model(dtype: torch.dtype = torch.float32) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            if request.param == "gpt-oss":
                made: nn.Module = GptOssForCausalLM(GptOssConfig(head_dim=4, **SIZES))
            else:
                made = MixtralForCausalLM(MixtralConfig(**SIZES))
            return made.to(dtype).eval()

    return model


def config(case: str = "two of one module", **changes: object) -> MSPLoraConfig:
    return MSPLoraConfig(**{"init_lora_weights": False, "ranks": (4, 2, 2)} | CASES[case] | changes)


def wrappers(model: nn.Module) -> dict[str, ParamWrapper]:
    return {path: module for path, module in model.named_modules() if isinstance(module, ParamWrapper)}


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.mark.parametrize("case", CASES)
def test_it_acts_saves_loads_merges_and_unloads(make: Callable, case: str, tmp_path: Path) -> None:
    base = output(make())
    assert torch.equal(output(get_peft_model(make(), config(case, init_lora_weights=True)).eval()), base)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = get_peft_model(make(), config(case)).eval()
    assert not [str(one.message) for one in caught if one.category is not FutureWarning]
    wanted = output(model)
    assert not torch.allclose(wanted, base, **CLOSE)
    model.save_pretrained(tmp_path)
    for low_memory in (False, True):
        loaded = PeftModel.from_pretrained(make(), tmp_path, low_cpu_mem_usage=low_memory)
        assert torch.equal(output(loaded), wanted)
    for safe in (False, True):
        model.merge_adapter(safe_merge=safe)
        assert torch.allclose(output(model), wanted, **CLOSE)
        with model.disable_adapter():
            assert torch.allclose(output(model), base, **CLOSE)
        model.merge_adapter()
        model.unmerge_adapter()
        assert torch.allclose(output(model), wanted, **CLOSE)
    assert torch.equal(output(PeftModel.from_pretrained(make(), tmp_path).unload()), base)
    plain = model.merge_and_unload(safe_merge=True)
    assert torch.allclose(output(plain), wanted, **CLOSE)
    assert {name for name, _ in plain.named_parameters()} == {name for name, _ in make().named_parameters()}


@pytest.mark.parametrize("case", CASES)
def test_every_factor_is_trained_and_nothing_else(make: Callable, case: str) -> None:
    model = get_peft_model(make(), config(case)).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model(input_ids=TOKENS).logits.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("msplora_" in name), name
        parameter.data = before[name]
    model.zero_grad()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model(input_ids=TOKENS).logits.square().sum().backward()
    assert all(torch.allclose(model.get_parameter(name).grad, grad, **CLOSE) for name, grad in gradients.items())


@pytest.mark.parametrize("case", ["two of one module", "a parameter and modules"])
def test_the_layer_scale_alone_is_lora(make: Callable, case: str) -> None:
    settings = {"lora_alpha": 12, "init_lora_weights": False, **CASES[case]}
    ours = get_peft_model(make(torch.float64), MSPLoraConfig(ranks=(0, 0, 4), **settings)).eval()
    theirs = get_peft_model(make(torch.float64), LoraConfig(r=4, **settings)).eval()
    pairs = [
        (ours.get_submodule(path).msplora_layer["default"], module)
        for path, module in theirs.named_modules()
        if hasattr(module, "lora_A")
    ]
    for factors, module in pairs:
        A, B = module.lora_A["default"].weight, module.lora_B["default"].weight
        assert (factors.A.shape, factors.B.shape) == (A.shape, B.shape)
        factors.A.data, factors.B.data = A.data.clone(), B.data.clone()
    for model in (ours, theirs):
        model.base_model.model.set_experts_implementation("eager")  # the other ones have no double precision
        model(input_ids=TOKENS).logits.square().sum().backward()
    assert torch.allclose(output(ours), output(theirs))
    for factors, module in pairs:
        assert torch.allclose(factors.B.grad, module.lora_B["default"].weight.grad)
    live = {c.key: c.update.singular_values() for c in read_components(theirs)}
    assert {c.key: pytest.approx(c.update.singular_values()) for c in read_components(ours)} == live


def test_spectra_are_those_of_each_expert_live_and_on_the_disk(make: Callable, tmp_path: Path) -> None:
    model = get_peft_model(make(), config(init_lora_weights="gaussian"))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1 * parameter.requires_grad)
    live = {c.key: c.update for c in read_components(model)}
    names = {f"{name}.expert{expert}" for name in ("gate_up_proj", "down_proj") for expert in range(3)}
    assert {key.module for key in live} == names
    counts = {scale: sum(key.scale == scale for key in live) for scale in ("global", "mid", "layer", "total")}
    assert counts == {"global": 6, "mid": 6 * 3, "layer": 6 * 4, "total": 6 * 4}
    for layer in wrappers(model).values():
        site, delta = layer.site["default"], layer.get_delta_weight("default").double().detach().numpy()
        for expert, dense in enumerate(delta):
            total = next(
                update
                for key, update in live.items()
                if (key.scale, key.module, key.unit) == ("total", f"{site.module}.expert{expert}", site.layer)
            )
            np.testing.assert_allclose(
                total.singular_values(), np.linalg.svd(dense, compute_uv=False)[: total.rank], rtol=1e-4, atol=1e-6
            )
    model.save_pretrained(tmp_path)
    stored = read_adapter(tmp_path)
    assert set(stored.keys) == set(live)
    for key, update in zip(stored.keys, stored.updates, strict=True):
        assert update.load().singular_values() == pytest.approx(live[key].singular_values(), rel=1e-5)
    paths = {update.path for key, update in zip(stored.keys, stored.updates, strict=True) if key.scale == "total"}
    assert "model.layers.3.mlp.experts.gate_up_proj.expert2" in paths


def test_experts_of_lora_on_the_disk(make: Callable, tmp_path: Path) -> None:
    settings = {"r": 4, "init_lora_weights": False, "rank_pattern": {"experts.down_proj": 1}}
    model = get_peft_model(make(), LoraConfig(**CASES["a parameter and modules"] | settings))
    live = {c.key: c.update.singular_values() for c in read_components(model)}
    model.save_pretrained(tmp_path / "one")
    stored = read_adapter(tmp_path / "one")
    assert set(stored.keys) == set(live)
    for key, update in zip(stored.keys, stored.updates, strict=True):
        assert update.load().singular_values() == pytest.approx(live[key], rel=1e-5)
    get_peft_model(make(), LoraConfig(r=4, **CASES["two of one module"])).save_pretrained(tmp_path / "two")
    two = read_adapter(tmp_path / "two")
    assert {line.module for line in two.modules()} == {
        f"{name}.expert{expert}" for name in ("experts", "base_layer") for expert in range(3)
    }
    assert two.notes == ("down_proj, gate_up_proj: the file does not say which factors belong to which of them.",)
    get_peft_model(make(), LoraConfig(**CASES["two of one module"] | settings)).save_pretrained(tmp_path / "unlike")
    with pytest.raises(AdapterFileError, match="rank_pattern: expected the same for all parameters of a module"):
        read_adapter(tmp_path / "unlike")


def test_two_adapters_share_their_layers_and_load_in_any_order(make: Callable, tmp_path: Path) -> None:
    model = get_peft_model(make(), config())
    count = len(wrappers(model))
    model.add_adapter("other", config(ranks=(2, 0, 2)))
    assert len(wrappers(model)) == count == 8
    assert all(set(layer.site) == {"default", "other"} for layer in wrappers(model).values())
    wanted = {}
    for name in ("default", "other"):
        model.set_adapter(name)
        wanted[name] = output(model.eval())
    model.base_model.set_adapter(["default", "other"])
    both = output(model)
    model.merge_adapter()
    assert torch.allclose(output(model), both, **CLOSE)
    model.unmerge_adapter()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make(), tmp_path / "other", adapter_name="other")
    outcome = loaded.load_adapter(tmp_path, "default")
    assert not outcome.missing_keys
    assert not outcome.unexpected_keys
    for name, logits in wanted.items():
        loaded.set_adapter(name)
        assert torch.allclose(output(loaded), logits, **CLOSE)
    loaded.delete_adapter("other")
    assert torch.allclose(output(loaded), wanted["default"], **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(make: Callable, dtype: torch.dtype) -> None:
    model = get_peft_model(make(dtype), config()).eval()
    wanted = output(model)
    assert wanted.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(output(model)).all()
    assert torch.allclose(output(model.merge_and_unload()).float(), wanted.float(), atol=0.1)


def test_generating(make: Callable) -> None:
    model = get_peft_model(make(), config()).eval()
    assert model.generate(input_ids=TOKENS, max_new_tokens=3, do_sample=False).shape == (2, 9)


def test_experts_share_with_the_experts_of_their_number(make: Callable) -> None:
    model = get_peft_model(make(), config("one parameter"))
    for scale, served in (("global", 4), ("mid", 2), ("layer", 1)):
        components = [id(layer.components(scale)["default"]) for layer in wrappers(model).values()]
        assert max(components.count(one) for one in components) == served


def test_ranks_by_pattern(make: Callable) -> None:
    pattern = {"experts.down_proj": (1, 0, 1)}
    model = get_peft_model(make(), config("a parameter and modules", rank_pattern=pattern))
    for layer in wrappers(model).values():
        assert layer.components("layer")["default"].A.shape == (1 * 3, 24)
        assert layer.scaling["default"] == {"global": 16.0, "layer": 16.0}


@pytest.mark.parametrize("case", CASES)
def test_it_becomes_plain_lora_live_and_on_the_disk(make: Callable, case: str, tmp_path: Path) -> None:
    model = get_peft_model(make(), config(case)).eval()
    wanted = output(model)
    model.save_pretrained(tmp_path / "msplora")
    convert_adapter(tmp_path / "msplora", tmp_path / "disk")
    convert_to_lora(model).save_pretrained(tmp_path / "live")
    for name in ("disk", "live"):
        plain = PeftModel.from_pretrained(make(), tmp_path / name).eval()
        assert plain.peft_config["default"].peft_type == "LORA"
        assert torch.allclose(output(plain), wanted, **CLOSE)
    cut = convert_adapter(tmp_path / "disk", tmp_path / "cut", rank=3)
    assert {module.rank for module in cut.modules} == {3}
    live = convert_to_lora(model, rank=3).eval()
    again = output(PeftModel.from_pretrained(make(), tmp_path / "cut").eval())
    assert torch.allclose(again, output(live), **CLOSE)
    assert not torch.allclose(again, wanted, **CLOSE)
    spectra = {str(key): update for key, update in zip(*_stored(tmp_path / "cut"), strict=True)}
    assert all(update.rank == 3 for update in spectra.values())


def _stored(path: Path) -> tuple:
    stored = read_adapter(path)
    return stored.keys, stored.updates


@pytest.mark.parametrize("pattern", [{"q_proj": (1, 1, 1)}, {"experts.down_proj": (2, 1, 1)}])
def test_it_becomes_plain_lora_where_ranks_differ(make: Callable, pattern: dict, tmp_path: Path) -> None:
    model = get_peft_model(make(), config("a parameter and modules", rank_pattern=pattern)).eval()
    model.save_pretrained(tmp_path / "msplora")
    convert_adapter(tmp_path / "msplora", tmp_path / "disk")
    read_adapter(tmp_path / "disk")
    for plain in (convert_to_lora(model), PeftModel.from_pretrained(make(), tmp_path / "disk")):
        assert torch.allclose(output(plain.eval()), output(model), **CLOSE)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_interference_of_each_expert(make: Callable) -> None:
    """Reference: the gradient G of an expert's base weight gives s·Bᵀ·G for A and s·G·Aᵀ for B."""
    model = get_peft_model(make(torch.float64), config("two of one module")).double()
    model.base_model.model.set_experts_implementation("eager")  # the other ones have no double precision
    recorder, layers = InterferenceRecorder(model), list(wrappers(model).values())
    for layer in layers:
        layer._adapted_parameter().requires_grad_(True)
    recorder.watch()
    tokens = torch.randint(5, 40, (8, 16), generator=torch.Generator().manual_seed(0))  # some for each expert
    model(input_ids=tokens).logits.square().sum().backward()
    before = [[scales.copy() for scales in layer_updates(layer, "default")] for layer in layers]
    recorder.before_step()
    torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1e-3).step()
    recorder.after_step()
    after = [layer_updates(layer, "default") for layer in layers]
    between_layers, between_scales = recorder.between_layers(), recorder.between_scales()
    for module, expert in product(("gate_up_proj", "down_proj"), range(3)):
        chosen = [place for place, layer in enumerate(layers) if layer.parameter_name == module]
        sent = []
        for place in chosen:
            old, gradient = before[place][expert], layers[place]._adapted_parameter().grad[expert]
            G = (gradient.T if layers[place].transposed else gradient).numpy()
            shared = old["global"]
            sent.append(np.concatenate([(shared.B.T @ G).ravel(), (G @ shared.A.T).ravel()]))
        norms = np.linalg.norm(sent, axis=1)
        mean, _ = between_layers[f"global/{module}.expert{expert}/0"]
        np.testing.assert_allclose(mean, np.array(sent) @ np.array(sent).T / np.outer(norms, norms), atol=1e-9)
        for place in chosen:
            old, new = before[place][expert], after[place][expert]
            one, other = (old[s].scaling * ((new[s].B - old[s].B) @ old[s].A + old[s].B @ (new[s].A - old[s].A))
                          for s in ("global", "layer"))  # fmt: skip
            mean, _ = between_scales[f"global-layer/{module}.expert{expert}/{layers[place].site['default'].layer}"]
            cosine = (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
            np.testing.assert_allclose(mean, cosine, atol=1e-9)


def test_what_is_left_aside(make: Callable, tmp_path: Path) -> None:
    """Conversion: said, not done halfway."""
    model = get_peft_model(make(), config("a parameter and modules"))
    with pytest.raises(UnsupportedAdapterError, match=r"mlp.experts: expected no energy, since the experts of a para"):
        convert_to_lora(model, energy=0.9)
    model.save_pretrained(tmp_path / "msplora")
    for limit in ({"energy": 0.9}, {"mean_rank": 2}):
        with pytest.raises(UnsupportedAdapterError, match=r"expected one rank for all modules, .*target_parameters"):
            convert_adapter(tmp_path / "msplora", tmp_path / "lora", **limit)
    with pytest.raises(UnsupportedAdapterError, match=r"found adapted parameters \(target_parameters\)"):
        convert_to_pyramid(tmp_path / "msplora", tmp_path / "pyramid", ranks=(2, 1, 1))
    with pytest.raises(ParameterError, match="adapters: expected adapters without target_parameters"):
        model.add_weighted_adapter(["default"], [1.0], "sum")
    with pytest.raises(ValueError, match=r"Mixed batches are not supported for adapted parameters"):
        model.eval()(input_ids=TOKENS, adapter_names=["default", "__base__"])


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"gate": nn.Linear(6, 6)}) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer["gate"](x).tanh()
        return x


def test_a_matrix_as_a_parameter_is_the_module() -> None:
    x = torch.randn(4, 6)
    torch.manual_seed(1)
    by_module = get_peft_model(Gated(), MSPLoraConfig(target_modules=["gate"], init_lora_weights=False))
    torch.manual_seed(1)
    by_name = MSPLoraConfig(target_parameters=["gate.weight"], init_lora_weights=False)
    by_parameter = get_peft_model(Gated(), by_name)
    assert torch.allclose(by_module(x), by_parameter(x), **CLOSE)
    assert {c.key for c in read_components(by_module)} == {c.key for c in read_components(by_parameter)}


def test_a_parametrized_parameter() -> None:
    """The update comes after the parametrization, which stays."""

    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    model, x = Gated(), torch.randn(4, 6)
    for layer in model.layers:
        parametrize.register_parametrization(layer["gate"], "weight", Doubled())
    before = model(x)
    names = [f"layers.{layer}.gate.weight" for layer in range(3)]
    adapted = get_peft_model(model, MSPLoraConfig(target_parameters=names, init_lora_weights=False))
    plain = Gated()
    for layer, gate in enumerate(adapted.base_model.model.layers):
        wrapper, target = gate["gate"], plain.layers[layer]["gate"]
        target.weight.data = wrapper.get_base_layer().weight + wrapper.get_delta_weight("default")
        target.bias.data = wrapper.get_base_layer().bias.data
    assert torch.allclose(adapted(x), plain(x), **CLOSE)
    assert torch.equal(adapted(x), adapted(x))
    with pytest.raises(NotImplementedError, match="Merging is not supported for the parametrized weight"):
        adapted.merge_adapter()
    assert torch.equal(adapted.unload()(x), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_parameters": "mlp.experts.down_proj"}, "target_parameters: expected a list of names"),
        ({"lora_dropout": 0.1}, "lora_dropout: expected none beside target_parameters, found 0.1"),
        ({"use_dora": True}, "use_dora: expected none beside target_parameters, found True"),
        ({"target_parameters": ["nothing"]}, "target_parameters: expected names of this model: .*gate.weight"),
        ({"target_parameters": ["gate.bias"]}, "expected parameters of 2 or 3 dimensions, found layers.0.gate.bias"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        get_peft_model(Gated(), MSPLoraConfig(**{"target_parameters": ["gate.weight"]} | settings))


def test_all_adapters_target_the_same_parameters(make: Callable) -> None:
    model = get_peft_model(make(), config("one parameter"))
    with pytest.raises(ParameterError, match=f"target_parameters: expected those of the adapter default: {DOWN}"):
        model.add_adapter("other", config())
    assert list(model.peft_config) == ["default"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": 5}, "expected ranks of 5 experts, as adapter_config.json says"),
        ({"experts": 0}, "expected a number of experts and a parameter's name"),
        ({"experts": 10**12}, "expected ranks of 1000000000000 experts"),
        ({"parameter": "\x1b[2J"}, "expected a number of experts and a parameter's name"),
        ({"parameter": ""}, "parameter: expected the name of the experts' parameter, found none"),
    ],
)
def test_damaged_records_are_reported(make: Callable, changes: dict, message: str, tmp_path: Path) -> None:
    get_peft_model(make(), config("one parameter")).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    content = json.loads(path.read_text())
    next(iter(content["placement"].values())).update(changes)
    path.write_text(json.dumps(content))
    with pytest.raises(FileError, match=message):
        read_adapter(tmp_path)
