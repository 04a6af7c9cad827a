"""MSPLoRA from its folder, against the same adapter on the live model."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from peft import get_peft_model  # noqa: E402
from torch import nn  # noqa: E402

from msplora_core.adapter import MSPLoraConfig, read_components  # noqa: E402
from msplora_core.components import component_spectra  # noqa: E402
from msplora_core.errors import AdapterFileError  # noqa: E402
from msplora_core.formats import read_adapter  # noqa: E402


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(20, 9)
        self.layers = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(9, 9), "v": nn.Linear(9, 6)}) for _ in range(6))

    def forward(self, x):
        return x


def saved(folder, dtype=torch.float32, **options):
    torch.manual_seed(0)
    config = MSPLoraConfig(target_modules=["q", "v"], init_lora_weights=False, **options)
    model = get_peft_model(Model(), config).to(dtype)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {"ranks": (8, 4, 2)},
        {"ranks": (4, 0, 1), "lora_alpha": (3, 5, 7)},
        {"ranks": (0, 2, 0), "groups": (1, 5)},
        {"ranks": (4, 2, 1), "use_rslora": True, "rank_pattern": {"v": (2, 1, 1)}},
    ],
)
def test_equals_the_live_model(tmp_path, options, dtype):
    model = saved(tmp_path, dtype, **options)
    adapter = read_adapter(tmp_path)
    assert adapter.method == "-".join(["msplora", *map(str, options["ranks"])])
    ours, live = component_spectra(adapter.components()), component_spectra(read_components(model))
    assert list(ours) == list(live)
    for key, sigma in live.items():
        np.testing.assert_allclose(ours[key], sigma, atol=1e-12 * sigma[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("placement"), "placement: expected the layer and group of each module, found None"),
        (
            lambda config: config["placement"].pop("layers.0.q"),
            "placement: expected an entry for layers.0.q, found none",
        ),
        (lambda config: config.update(ranks=8), "ranks: expected three whole numbers"),
        (
            lambda config: config["placement"]["layers.5.q"].update(group=7),
            "placement of layers.5.q: expected the component mid/q/7 in the weights, found none",
        ),
        (
            lambda config: config["placement"]["layers.5.q"].update(layer="last"),
            "placement of layers.5.q: layer: expected a whole number or null, found last",
        ),
        (
            lambda config: config["placement"]["layers.0.q"]["scaling"].update(layer="2"),
            "placement of layers.0.q: expected a finite scaling at the scale layer, found 2",
        ),
        (lambda config: config["placement"]["layers.0.q"].update(module="a/b"), "a module's name and scales of"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, change, message):
    saved(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    change(config)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterFileError) as error:
        read_adapter(tmp_path)
    assert message in str(error.value)
