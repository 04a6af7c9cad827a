"""Models that are no transformers: what PEFT's own tests of custom models hold LoRA to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from msplora_core.adapter import MSPLoraConfig, read_components
from msplora_core.conversion import convert_to_lora
from msplora_core.conversion.disk import convert_adapter
from msplora_core.errors import UnsupportedAdapterError

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin0, self.lin1 = nn.Linear(10, 20), nn.Linear(20, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin1(torch.relu(self.lin0(x))).log_softmax(-1)


class Transposed(nn.Module):
    """`Conv1D` of transformers: a linear module whose weight is in × out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1d, self.lin0 = Conv1D(8, 10), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin0(torch.relu(self.conv1d(x)))


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(30, 6, padding_idx=0)
        self.conv1d, self.lin0 = Conv1D(8, 6), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin0(self.conv1d(self.emb(x)))


class Scaled(Embedded):
    """An embedding that multiplies what it looks up, as Gemma's does."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = ScaledEmbedding(30, 6)


class ScaledEmbedding(nn.Embedding):
    embed_scale = 3.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.embed_scale


class Convolved(nn.Module):
    """Three layers of convolutions that share, and one of another shape behind them."""

    dimensions = 2

    def __init__(self, **settings: object) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[self.dimensions - 1]
        self.blocks = nn.ModuleList(nn.ModuleDict({"conv": kind(4, 4, 3, padding=1, **settings)}) for _ in range(3))
        self.last = kind(4, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.reshape(x.shape[0], 4, *(8,) * self.dimensions)
        for block in self.blocks:
            x = torch.relu(block["conv"](x))
        return self.last(x).flatten(2).mean(-1)


class Convolved1d(Convolved):
    dimensions = 1


class Convolved3d(Convolved):
    dimensions = 3


class Unlike(Convolved):
    """Convolutions that share, though stride, dilation and padding differ."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks[0]["conv"] = nn.Conv2d(4, 4, 3, padding=2, dilation=2, padding_mode="reflect")
        self.blocks[1]["conv"] = nn.Conv2d(4, 4, 3, stride=2)
        self.blocks[2]["conv"] = nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular", bias=False)


FLOATS = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
IMAGES = {n: torch.randn(5, 4 * 8**n, generator=torch.Generator().manual_seed(0)) for n in (1, 2, 3)}
INDICES = torch.randint(0, 30, (4, 9), generator=torch.Generator().manual_seed(0))

DORA = {"use_dora": True}

CASES = {
    "one linear": (Perceptron, FLOATS, {"target_modules": ["lin0"]}),
    "two linear": (Perceptron, FLOATS, {"target_modules": ["lin0", "lin1"]}),
    "linear, dropout": (Perceptron, FLOATS, {"target_modules": ["lin0"], "lora_alpha": 32, "lora_dropout": 0.1}),
    "linear, module to save": (Perceptron, FLOATS, {"target_modules": ["lin0"], "modules_to_save": ["lin1"]}),
    "linear, rank-stabilised": (Perceptron, FLOATS, {"target_modules": ["lin0"], "use_rslora": True}),
    "rank above the size": (Perceptron, FLOATS, {"target_modules": ["lin1"], "ranks": (0, 0, 24)}),
    "Conv1D": (Transposed, FLOATS, {"target_modules": ["conv1d"]}),
    "Conv1D and linear": (Transposed, FLOATS, {"target_modules": ["conv1d", "lin0"]}),
    "embedding": (Embedded, INDICES, {"target_modules": ["emb"]}),
    "embedding, Conv1D and linear": (Embedded, INDICES, {"target_modules": ["emb", "conv1d", "lin0"]}),
    "embedding with a scale": (Scaled, INDICES, {"target_modules": ["emb"]}),
    "Conv1d": (Convolved1d, IMAGES[1], {"target_modules": ["conv"]}),
    "Conv2d": (Convolved, IMAGES[2], {"target_modules": ["conv", "last"]}),
    "Conv3d": (Convolved3d, IMAGES[3], {"target_modules": ["conv", "last"]}),
    "Conv2d, dropout": (Convolved, IMAGES[2], {"target_modules": ["conv"], "lora_dropout": 0.1, "use_rslora": True}),
    "linear, DoRA, dropout": (Perceptron, FLOATS, {"target_modules": ["lin0", "lin1"], "lora_dropout": 0.1} | DORA),
    "Conv1D, DoRA": (Transposed, FLOATS, {"target_modules": ["conv1d"]} | DORA),
    "embedding with a scale, DoRA": (Scaled, INDICES, {"target_modules": ["emb"]} | DORA),
    "Conv2d, DoRA": (Convolved, IMAGES[2], {"target_modules": ["conv", "last"]} | DORA),
    "Conv2d of several settings": (Unlike, IMAGES[2], {"target_modules": ["conv"], "lora_alpha": (4, 8, 16)}),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Callable[[], nn.Module], torch.Tensor, dict]:
    kind, inputs, settings = CASES[request.param]

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return kind().eval()

    return make, inputs, settings


def attach(case: tuple, **changes: object) -> nn.Module:
    make, _, settings = case
    return get_peft_model(make(), MSPLoraConfig(**{"init_lora_weights": False} | settings | changes)).eval()


def test_a_fresh_adapter_changes_nothing(case: tuple) -> None:
    make, x, _ = case
    assert torch.allclose(attach(case, init_lora_weights=True)(x), make()(x), **CLOSE)


def test_only_the_adapter_is_trained(case: tuple) -> None:
    _, x, _ = case
    model = attach(case, init_lora_weights=True).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        optimiser.zero_grad()
        model(x).square().sum().backward()
        optimiser.step()
    for name, parameter in model.named_parameters():
        trained = "msplora_" in name or "modules_to_save" in name
        assert torch.equal(parameter, before[name]) != trained, name


def test_disabling_gives_the_base_model(case: tuple) -> None:
    make, x, _ = case
    model = attach(case)
    assert not torch.allclose(model(x), make()(x), **CLOSE)
    with model.disable_adapter():
        assert torch.allclose(model(x), make()(x), **CLOSE)


def test_saving_and_loading(case: tuple, tmp_path: Path) -> None:
    make, x, _ = case
    model = attach(case)
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(make(), tmp_path)(x), model(x))


@pytest.mark.parametrize("safe", [False, True])
def test_merging_and_unmerging(case: tuple, safe: bool) -> None:
    _, x, _ = case
    model = attach(case)
    wanted = model(x)
    model.merge_adapter(safe_merge=safe)
    assert torch.allclose(model(x), wanted, **CLOSE)
    model.unmerge_adapter()
    assert torch.allclose(model(x), wanted, **CLOSE)
    assert torch.allclose(model.merge_and_unload(safe_merge=safe)(x), wanted, **CLOSE)


def test_a_mixed_batch(case: tuple) -> None:
    make, x, settings = case
    model = attach(case)
    model.add_adapter("other", MSPLoraConfig(**{"init_lora_weights": False} | settings))
    wanted = {"default": model(x), "__base__": make()(x)}
    model.set_adapter("other")
    wanted["other"] = model(x)
    names = (["other", "__base__", "default"] * 2)[: len(x)]
    mixed = model(x, adapter_names=names)
    for item, name in enumerate(names):
        assert torch.allclose(mixed[item], wanted[name][item], **CLOSE)


def test_the_update_of_each_layer_is_what_its_components_say(case: tuple) -> None:
    model = attach(case)
    # The total comes last, where there is one.
    totals = {(c.key.module, c.key.unit): c.update for c in read_components(model)}
    for module in model.modules():
        if hasattr(module, "msplora_layer"):
            update = module.get_delta_weight("default").flatten(1).detach().numpy()
            site = module.site["default"]
            total = totals[site.module, site.layer or 0]
            dense = total.scaling * total.B @ total.A
            assert abs((dense.T if module.transposed else dense) - update).max() < 1e-5 * abs(update).max()


@pytest.mark.parametrize("case", [name for name in CASES if name != "Conv2d of several settings"], indirect=True)
def test_conversion_to_plain_lora(case: tuple, tmp_path: Path) -> None:
    make, x, _ = case
    model = attach(case)
    wanted = model(x)
    assert torch.allclose(convert_to_lora(model)(x), wanted, **CLOSE)
    model.save_pretrained(tmp_path / "msplora")
    convert_adapter(tmp_path / "msplora", tmp_path / "lora")
    assert torch.allclose(PeftModel.from_pretrained(make(), tmp_path / "lora")(x), wanted, **CLOSE)


def test_settings_of_convolutions_that_lora_ignores_are_refused() -> None:
    model = get_peft_model(Unlike(), MSPLoraConfig(target_modules=["conv"]))
    with pytest.raises(UnsupportedAdapterError, match=r"blocks.0.conv: .* dilation \(2, 2\), padding mode reflect"):
        convert_to_lora(model)


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_dora": True, "lora_dropout": 0.5}])
@pytest.mark.parametrize(
    ("kind", "x"),
    [
        (Perceptron, FLOATS),
        (Transposed, FLOATS),
        (Embedded, INDICES),
        (Convolved1d, IMAGES[1]),
        (Convolved, IMAGES[2]),
        (Convolved3d, IMAGES[3]),
    ],
)
def test_the_layer_scale_alone_is_lora(kind: type, x: torch.Tensor, settings: dict) -> None:
    """With one scale, on the same factors, MSPLoRA and LoRA of PEFT give the same result and the same gradients."""
    leaves = [name for name, module in kind().named_modules() if name and not list(module.children())]
    settings = settings | {"lora_alpha": 12, "init_lora_weights": False}
    settings["target_modules"] = sorted({name.rpartition(".")[2] for name in leaves})
    ours = get_peft_model(kind(), MSPLoraConfig(ranks=(0, 0, 4), **settings))
    theirs = get_peft_model(kind(), LoraConfig(r=4, **settings))
    pairs = []
    for path, module in theirs.named_modules():
        if hasattr(module, "lora_A"):
            layer = ours.get_submodule(path)
            embedded = "default" in module.lora_embedding_A
            A = module.lora_embedding_A["default"] if embedded else module.lora_A["default"].weight
            B = module.lora_embedding_B["default"] if embedded else module.lora_B["default"].weight
            pairs += [(layer.msplora_layer["default"].A, A), (layer.msplora_layer["default"].B, B)]
            if "use_dora" in settings:
                magnitude = module.lora_magnitude_vector["default"].weight
                magnitude.data *= torch.rand_like(magnitude) + 0.5
                pairs.append((layer.msplora_magnitude["default"].weight, magnitude))
    for mine, yours in pairs:
        assert mine.shape == yours.shape
        mine.data = yours.data.clone()
    theirs.base_model.model.load_state_dict(ours.base_model.model.state_dict(), strict=False)
    results = []
    for model in (ours, theirs):
        torch.manual_seed(1)  # of the dropout
        results.append(model.train()(x))
        results[-1].square().sum().backward()
    assert torch.allclose(*results, **CLOSE)
    for mine, yours in pairs:
        assert torch.allclose(mine.grad, yours.grad, atol=1e-5 * yours.grad.abs().max(), rtol=1e-4)
    assert sum(mine.numel() for mine, _ in pairs) == theirs.get_nb_trainable_parameters()[0]
