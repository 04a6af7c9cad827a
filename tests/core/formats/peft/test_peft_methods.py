"""Every PEFT method that is read, against a dense SVD of what PEFT itself calls the weight update."""

import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
from torch import nn  # noqa: E402
from transformers.pytorch_utils import Conv1D  # noqa: E402

from msplora_core.components import component_spectra  # noqa: E402
from msplora_core.errors import FileError, UnsupportedAdapterError  # noqa: E402
from msplora_core.formats import read_adapter  # noqa: E402

HALF = [torch.float32, torch.bfloat16, torch.float16]


class Layer(nn.Module):
    def __init__(self, kernel=3):
        super().__init__()
        self.q_proj = nn.Linear(30, 42)
        self.v_proj = nn.Linear(30, 14)
        self.c_attn = Conv1D(21, 30)
        self.conv = nn.Conv2d(6, 10, kernel)


class Model(nn.Module):
    """Odd shapes; more than ten layers, so that `layers.1` must not mean `layers.11`."""

    def __init__(self, layers=12, kernel=3):
        super().__init__()
        self.embed_tokens = nn.Embedding(50, 12)
        self.layers = nn.ModuleList(Layer(kernel) for _ in range(layers))
        self.classifier = nn.Linear(30, 2)

    def forward(self, x):
        return x


def saved(config, folder, *, dtype=torch.float32, layers=12, kernel=3):
    """A random adapter of a random model, saved by PEFT; returns the model as PEFT has it, in float64."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(Model(layers, kernel), config)
        for name, parameter in model.named_parameters():
            if any(mark in name for mark in ("lora_", "hada_", "lokr_", "vera_lambda")):
                parameter.data = torch.randn_like(parameter, dtype=torch.float32).to(dtype)
        model.save_pretrained(folder)
    return model.double()


def agrees(folder, model, tolerance=1e-6):
    """Compare every update of the folder with PEFT's; returns the adapter."""
    adapter = read_adapter(folder)
    adapted = {name for name, module in model.base_model.model.named_modules() if hasattr(module, "get_delta_weight")}
    assert {update.path for update in adapter.updates} == adapted
    spectra = component_spectra(adapter.components())
    for stored, key in zip(adapter.updates, adapter.keys, strict=True):
        delta = model.base_model.model.get_submodule(stored.path).get_delta_weight("default").detach().numpy()
        delta = delta.reshape(len(delta), -1)
        expected = np.linalg.svd(delta, compute_uv=False)
        sigma = spectra[str(key)]
        assert sigma.shape == (stored.rank,)
        assert set(stored.shape) == set(delta.shape)
        size = min(len(sigma), len(expected))
        np.testing.assert_allclose(sigma[:size], expected[:size], atol=tolerance * expected[0], rtol=0)
        assert np.all(expected[size:] < 1e-6 * expected[0])
        assert np.all(sigma[size:] < 1e-6 * expected[0])
        assert key.scale == "layer"
    return adapter


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"layers.1.q_proj": 3, "v_proj": 5}, "alpha_pattern": {"^layers.2.q_proj": 7, "q_proj": 9}},
        {"rank_pattern": {r".*\.(1|2)\.q_proj": 2, r"layers.\d+.v_proj": 4}, "use_rslora": True},
        {"rank_pattern": {r"(?:layers\.)?[23]\.q_proj": 2, r"^layers\.(?:0|1|11)\.\w_proj$": 4}},
        {"lora_bias": True},
        {"modules_to_save": ["classifier"]},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_lora_equals_peft(tmp_path, options, dtype):
    config = peft.LoraConfig(r=6, lora_alpha=11, target_modules=["q_proj", "v_proj"], **options)
    model = saved(config, tmp_path, dtype=dtype)
    adapter = agrees(tmp_path, model)
    assert {update.dtype for update in adapter.updates} == {str(dtype).removeprefix("torch.")}
    assert [line.module for line in adapter.modules()] == ["q_proj", "v_proj"]
    assert adapter.modules()[0].units == tuple(range(12))


def test_patterns_are_matched_as_peft_matches_them(tmp_path):
    options = {"rank_pattern": {"layers.1.q_proj": 3}, "alpha_pattern": {"1.q_proj": 5}}
    saved(peft.LoraConfig(r=6, lora_alpha=12, target_modules=["q_proj"], **options), tmp_path)
    adapter = read_adapter(tmp_path)
    by_path = {update.path: (update.rank, update.scaling) for update in adapter.updates}
    assert by_path["layers.1.q_proj"] == (3, 5 / 3)
    assert by_path["layers.11.q_proj"] == (6, 2.0)


@pytest.mark.parametrize("dtype", HALF[:2], ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
def test_conv1d_embedding_and_convolution_equal_peft(tmp_path, dtype, kernel):
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["c_attn", "conv", "embed_tokens"], fan_in_fan_out=True)
    model = saved(config, tmp_path, dtype=dtype, layers=2, kernel=kernel)
    modules = {line.module: line for line in agrees(tmp_path, model).modules()}
    assert modules["conv"].shapes == ((10, 6 * kernel**2),)
    assert modules["embed_tokens"].units == (0,)


def test_convolutions_with_groups_equal_what_the_layer_does(tmp_path):
    """PEFT has no weight update for them; its layers answer to unit inputs with the columns of one."""

    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(6, 12, (1, 2), groups=2, bias=False)

        def forward(self, x):
            return self.conv(x)

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["conv"], init_lora_weights=False)
        model = peft.get_peft_model(Grouped(), config)
    model.save_pretrained(tmp_path)
    model.double()
    with torch.no_grad():
        units = torch.eye(12, dtype=torch.float64).reshape(12, 6, 1, 2)
        added = model(units)
        with model.disable_adapter():
            added -= model(units)
    expected = np.linalg.svd(added.reshape(12, 12).numpy(), compute_uv=False)[:4]
    (stored,) = read_adapter(tmp_path).updates
    assert stored.shape == (12, 12)
    np.testing.assert_allclose(stored.load().singular_values(), expected, rtol=1e-6)


@pytest.mark.parametrize("initialisation", ["pissa", "olora"])
def test_initialisations_that_change_the_base_are_named(tmp_path, initialisation):
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=initialisation)
    torch.manual_seed(0)
    model = peft.get_peft_model(Model(2), config)
    model.save_pretrained(tmp_path)
    adapter = agrees(tmp_path, model.double())
    assert adapter.method == f"{initialisation}-r4"
    assert f"The initialisation {initialisation} subtracted the first B·A from the base model" in adapter.notes[0]


def test_dora_says_that_it_is_the_low_rank_part_only(tmp_path):
    saved(peft.LoraConfig(r=4, target_modules=["q_proj"], use_dora=True), tmp_path, layers=2)
    adapter = read_adapter(tmp_path)
    assert adapter.method == "dora-r4"
    assert adapter.notes[0].startswith("DoRA: spectra of the low-rank part only")


def test_experts_in_one_parameter_are_told_apart(tmp_path):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.randn(3, 8, 10))

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Experts() for _ in range(2))

        def forward(self, x):
            return x

    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=[], target_parameters=["gate"], init_lora_weights=False)
    model = peft.get_peft_model(Mixture(), config)
    model.save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path)
    assert [line.module for line in adapter.modules()] == ["gate.expert0", "gate.expert1", "gate.expert2"]
    for stored in adapter.updates:
        path, _, expert = stored.path.rpartition(".gate.expert")
        delta = model.double().base_model.model.get_submodule(path).get_delta_weight("default")[int(expert)]
        expected = np.linalg.svd(delta.detach().numpy(), compute_uv=False)[:2]
        np.testing.assert_allclose(stored.load().singular_values(), expected, rtol=1e-6)


def test_adalora_equals_peft_before_and_after_pruning(tmp_path):
    config = peft.AdaLoraConfig(init_r=8, target_r=4, lora_alpha=5, target_modules=["q_proj", "v_proj"], total_step=100)
    model = saved(config, tmp_path / "whole")
    assert agrees(tmp_path / "whole", model).method == "adalora-r4"

    kept = {"q_proj": [True, False] * 4, "v_proj": [True] * 3 + [False] * 5}
    pattern = {f"layers.{layer}.{module}.lora_E": mask for layer in range(12) for module, mask in kept.items()}
    model = saved(config, tmp_path / "unpruned").float()
    model.peft_config["default"].rank_pattern = pattern
    model.save_pretrained(tmp_path / "pruned")
    loaded = peft.PeftModel.from_pretrained(Model(), tmp_path / "pruned").double()
    adapter = agrees(tmp_path / "pruned", loaded)
    assert [line.ranks for line in adapter.modules()] == [(4,), (3,)]


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("rank", [2, 5])
def test_loha_equals_peft(tmp_path, dtype, rank):
    config = peft.LoHaConfig(r=rank, alpha=7, target_modules=["q_proj", "v_proj"], alpha_pattern={"layers.1.v_proj": 3})
    agrees(tmp_path, saved(config, tmp_path, dtype=dtype, layers=3))


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=2, lora_alpha=3, target_modules=["conv_1d", "conv_3d", "attention"]),
        peft.LoHaConfig(r=2, alpha=3, target_modules=["conv_1d", "grouped"]),
        peft.LoKrConfig(r=2, alpha=3, target_modules=["conv_1d", "grouped"], decompose_both=True),
        peft.AdaLoraConfig(init_r=4, target_r=2, target_modules=["conv_2d"], total_step=10),
        peft.LoraConfig(r=20, lora_alpha=3, target_modules=["narrow"]),
    ],
    ids=["lora", "loha", "lokr", "adalora", "rank above size"],
)
def test_unusual_layers_equal_peft(tmp_path, config, monkeypatch):
    class Unusual(nn.Module):
        def __init__(self, *_):
            super().__init__()
            self.conv_1d, self.conv_3d = nn.Conv1d(6, 10, 3), nn.Conv3d(4, 6, 2)
            self.conv_2d, self.grouped = nn.Conv2d(6, 10, 3), nn.Conv2d(6, 12, 3, groups=2)
            self.attention, self.narrow = nn.MultiheadAttention(8, 2), nn.Linear(6, 5)

        def forward(self, x):
            return x

    monkeypatch.setitem(globals(), "Model", Unusual)
    agrees(tmp_path, saved(config, tmp_path))


@pytest.mark.parametrize("effective", [True, False])
@pytest.mark.parametrize("method", [peft.LoHaConfig, peft.LoKrConfig])
def test_lycoris_convolutions_equal_peft(tmp_path, method, effective):
    config = method(r=2, alpha=3, target_modules=["conv"], use_effective_conv2d=effective)
    agrees(tmp_path, saved(config, tmp_path, layers=2))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(
    "options", [{"r": 2}, {"r": 2, "decompose_both": True}, {"r": 64}, {"r": 3, "decompose_factor": 2}]
)
def test_lokr_equals_peft(tmp_path, dtype, options):
    config = peft.LoKrConfig(alpha=7, target_modules=["q_proj", "v_proj"], **options)
    adapter = agrees(tmp_path, saved(config, tmp_path, dtype=dtype, layers=2))
    assert adapter.method == f"lokr-r{options['r']}"


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_vera_with_saved_projections_equals_peft(tmp_path, dtype):
    config = peft.VeraConfig(r=6, target_modules=["q_proj", "v_proj"], save_projection=True)
    adapter = agrees(tmp_path, saved(config, tmp_path, dtype=dtype, layers=3))
    assert adapter.method == "vera-r6"


def test_vera_without_projections_needs_the_base_model(tmp_path):
    from safetensors.torch import save_model

    config = peft.VeraConfig(r=6, target_modules=["q_proj", "v_proj"], save_projection=False, projection_prng_key=5)
    model = saved(config, tmp_path / "adapter", layers=2)
    with pytest.raises(UnsupportedAdapterError, match="give the base model's folder as base"):
        read_adapter(tmp_path / "adapter")
    (tmp_path / "base").mkdir()
    save_model(Model(2), str(tmp_path / "base" / "model.safetensors"))
    adapter = read_adapter(tmp_path / "adapter", base=tmp_path / "base")
    assert "drawn them again" in adapter.notes[0]
    for stored in adapter.updates:
        delta = model.base_model.model.get_submodule(stored.path).get_delta_weight("default").detach().numpy()
        expected = np.linalg.svd(delta, compute_uv=False)[:6]
        np.testing.assert_allclose(stored.load().singular_values(), expected, atol=1e-6 * expected[0])


def test_bin_weights_read_as_safetensors_do(tmp_path):
    config = peft.LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    model = peft.get_peft_model(Model(2), config)
    model.save_pretrained(tmp_path / "new")
    model.save_pretrained(tmp_path / "old", safe_serialization=False)
    assert (tmp_path / "old" / "adapter_model.bin").is_file()
    new, old = (component_spectra(read_adapter(tmp_path / name).components()) for name in ("new", "old"))
    assert new.keys() == old.keys()
    assert all(np.array_equal(new[key], old[key]) for key in new)


def test_several_adapters_in_one_file_are_refused(tmp_path):
    config = peft.LoraConfig(r=3, target_modules=["q_proj"])
    model = saved(config, tmp_path, layers=2)
    from safetensors.torch import save_file

    both = {
        name.replace("lora_A", f"lora_A.{adapter}").replace("lora_B", f"lora_B.{adapter}"): tensor.contiguous()
        for name, tensor in peft.get_peft_model_state_dict(model.float()).items()
        for adapter in ("one", "two")
    }
    save_file({name: tensor.clone() for name, tensor in both.items()}, str(tmp_path / "adapter_model.safetensors"))
    with pytest.raises(FileError, match="expected one lora_A for"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("LILY", "the method LILY depends on the input"),
        ("XLORA", "the method XLORA depends on the input"),
        ("PREFIX_TUNING", "the method PREFIX_TUNING is not a weight update"),
        ("PROMPT_TUNING", "the method PROMPT_TUNING is not a weight update"),
        ("IA3", "the method IA3 multiplies the base model's weights"),
        ("SOMETHING", "the method SOMETHING cannot be read here, .* expected one of LORA"),
    ],
)
def test_methods_without_a_spectrum_are_named_and_refused(tmp_path, kind, reason):
    saved(peft.LoraConfig(r=3, target_modules=["q_proj"]), tmp_path, layers=1)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "peft_type": kind}))
    with pytest.raises(UnsupportedAdapterError, match=reason):
        read_adapter(tmp_path)
