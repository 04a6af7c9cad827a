"""A plan as files of trainers, each held against the trainer, or against how it reads them."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from msplora_analysis import load_spectra, plan_ranks, read_plan_targets, write_plan
from msplora_analysis.planning.unet_blocks import block_ranks
from msplora_core.errors import UnsupportedAdapterError

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
peft = pytest.importorskip("peft", reason="the extra `train` is not installed")
yaml = pytest.importorskip("yaml", reason="comes with transformers, of the extra `train`")

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}


def model_of(name: str):
    """A small model with random weights, and targets of LoRA in it."""
    import transformers as t

    torch.manual_seed(0)
    if name == "bert":
        return t.BertForSequenceClassification(t.BertConfig(vocab_size=50, **SMALL)), ["query", "value", "dense"]
    if name == "llama":
        config = t.LlamaConfig(vocab_size=50, num_key_value_heads=2, **SMALL)
        return t.LlamaForCausalLM(config), ["q_proj", "k_proj", "v_proj", "down_proj"]
    if name == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, n_positions=16)), [
            "c_attn"
        ]
    if name == "t5":
        config = t.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0)
        return t.T5ForConditionalGeneration(config), ["q", "v", "wo"]
    return t.ViTForImageClassification(
        t.ViTConfig(image_size=16, patch_size=8, **SMALL)
    ), r".*\.(q_proj|query|dense|fc1)"


def probe(name: str, folder: Path, config: object = None) -> tuple[Path, object]:
    """A saved adapter with random updates of unequal weight, and its base model."""
    base, targets = model_of(name)
    config = config or peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for place, (key, parameter) in enumerate(model.named_parameters()):
            if "lora_" in key:
                parameter.normal_().mul_(1 + place % 5)
    model.save_pretrained(folder)
    return folder, model_of(name)[0]


def written(path: Path, out: Path, **options: object):
    plan = plan_ranks(load_spectra(path), **(options or {"mean_rank": 2}))
    write_plan(plan, out, read_plan_targets(path))
    return plan


def ranks_of(model: object) -> dict[str, int]:
    return {
        path: module.r["default"]
        for path, module in model.base_model.model.named_modules()
        if hasattr(module, "lora_A")
    }


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "t5", "vit"])
@pytest.mark.parametrize("least", [0, 1])
def test_peft_gives_exactly_the_planned_ranks_without_a_warning(name: str, least: int, tmp_path: Path) -> None:
    path, base = probe(name, tmp_path / "probe")
    plan = written(path, tmp_path / "plan", mean_rank=1.5, least=least)
    planned = pd.read_csv(tmp_path / "plan/plan.csv").set_index("path")["rank"]
    assert len(planned) == len(plan.modules)
    assert planned.nunique() > 1
    config = peft.LoraConfig(**json.loads((tmp_path / "plan/peft.json").read_text()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # of one library about another
        model = peft.get_peft_model(base, config)
    assert ranks_of(model) == {module: rank for module, rank in planned.items() if rank}
    assert {round(module.scaling["default"], 5) for module in model.modules() if hasattr(module, "lora_A")} == {2.0}


def test_the_python_file_is_the_same_configuration(tmp_path: Path) -> None:
    path, _ = probe("bert", tmp_path / "probe")
    written(path, tmp_path / "plan")
    names: dict[str, object] = {}
    exec((tmp_path / "plan/peft.py").read_text(), names)
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert names["config"].to_dict() == peft.LoraConfig(**fields).to_dict()
    assert "# vLLM serves it with --max-lora-rank 8." in (tmp_path / "plan/peft.py").read_text()


def test_a_module_whose_path_ends_with_anothers_keeps_its_own_rank(tmp_path: Path) -> None:
    class Tower(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module | None = None) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.ModuleDict({"q": torch.nn.Linear(8, 8)}) for _ in range(2))
            if inner is not None:
                self.inner = inner

    torch.manual_seed(0)
    model = peft.get_peft_model(Tower(Tower()), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q"]))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_().mul_(9.0 if key.startswith("base_model.model.layers.0") else 1.0)
    model.save_pretrained(tmp_path / "probe")
    written(tmp_path / "probe", tmp_path / "plan", mean_rank=1.75)
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert list(fields["rank_pattern"]) == [r"inner\.layers\.0\.q", r"layers\.0\.q"]
    assert ranks_of(peft.get_peft_model(Tower(Tower()), peft.LoraConfig(**fields))) == {
        "layers.0.q": 4, "layers.1.q": 1, "inner.layers.0.q": 1, "inner.layers.1.q": 1,
    }  # fmt: skip


def test_rslora_keeps_its_alpha(tmp_path: Path) -> None:
    path, base = probe(
        "bert", tmp_path / "probe", peft.LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=["query"])
    )
    written(path, tmp_path / "plan")
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert (fields["use_rslora"], fields["lora_alpha"], fields["alpha_pattern"]) == (True, 8, {})
    assert ranks_of(peft.get_peft_model(base, peft.LoraConfig(**fields)))


def test_msplora_has_three_ranks_for_each_module_type(tmp_path: Path) -> None:
    from msplora_core import MSPLoraConfig

    base, _ = model_of("bert")
    config = MSPLoraConfig(ranks=(4, 2, 2), lora_alpha=8, target_modules=["query", "value"], init_lora_weights=False)
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "probe")
    plan = written(tmp_path / "probe", tmp_path / "plan", keep=0.6)
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert fields.pop("peft_type") == "MSPLORA"
    model = peft.get_peft_model(model_of("bert")[0], MSPLoraConfig(**fields))
    planned = {(one.scale, one.module): one.rank for one in plan.ranks}
    for module in model.modules():
        if hasattr(module, "site") and module.site:
            site = module.site["default"]
            assert site.rank == {scale: planned[scale, site.module] for scale in ("global", "mid", "layer")}
            assert site.scaling == {"global": 2.0, "mid": 4.0, "layer": 4.0}
    assert not (tmp_path / "plan/axolotl.yaml").exists()


def test_axolotl_passes_its_patterns_to_peft(tmp_path: Path) -> None:
    path, base = probe("llama", tmp_path / "probe")
    written(path, tmp_path / "plan")
    config = yaml.safe_load((tmp_path / "plan/axolotl.yaml").read_text())
    values = [config["lora_r"], config["lora_alpha"], *config["lora_rank_pattern"].values()]
    assert all(type(value) is int and value > 0 for value in [*values, *config["lora_alpha_pattern"].values()])
    theirs = peft.LoraConfig(  # as axolotl/loaders/adapter.py builds it
        r=config["lora_r"], lora_alpha=config["lora_alpha"], target_modules=config["lora_target_modules"],
        rank_pattern=config["lora_rank_pattern"], alpha_pattern=config["lora_alpha_pattern"],
    )  # fmt: skip
    ours = peft.LoraConfig(**json.loads((tmp_path / "plan/peft.json").read_text()))
    assert ranks_of(peft.get_peft_model(base, theirs)) == ranks_of(peft.get_peft_model(model_of("llama")[0], ours))


def kohya_ranks(text: str, paths: list[str], name: str) -> dict[str, float]:
    """What sd-scripts makes of an argument: pairs split at commas and the first equals sign, the first match counts."""
    argument = re.search(rf"'{name}=([^']*)'", text)
    assert argument is not None
    pairs = [pair.split("=", 1) for pair in argument[1].split(",")]
    whole = {path: next(float(v) for k, v in pairs if re.fullmatch(k, path)) for path in paths}
    flat = {
        path: next(float(v) for k, v in pairs if re.search(k, f"lora_unet_{path}".replace(".", "_"))) for path in paths
    }
    assert whole == flat
    return whole


def test_sd_scripts_reads_each_rank_by_path_or_flat_name(tmp_path: Path) -> None:
    path, _ = probe("vit", tmp_path / "probe")
    written(path, tmp_path / "plan", mean_rank=1.5, least=0)
    planned = pd.read_csv(tmp_path / "plan/plan.csv").set_index("path")["rank"]
    text = (tmp_path / "plan/kohya.txt").read_text()
    assert kohya_ranks(text, [*planned.index, "other.proj"], "network_reg_dims") == {**planned, "other.proj": 0}
    kept = planned[planned > 0]
    assert kohya_ranks(text, list(kept.index), "network_reg_alphas") == (2.0 * kept).to_dict()


def test_blocks_of_a_unet(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {}
    for block in ("down_blocks_1_attentions_0", "mid_block_attentions_0", "up_blocks_3_attentions_2"):
        name = f"lora_unet_{block}_transformer_blocks_0_attn1_to_q"
        tensors[f"{name}.lora_down.weight"] = random.normal(size=(4, 8)).astype("float32")
        tensors[f"{name}.lora_up.weight"] = random.normal(size=(8, 4)).astype("float32")
        tensors[f"{name}.alpha"] = np.array(8.0, dtype="float32")
    save_file(tensors, tmp_path / "style.safetensors")
    written(tmp_path / "style.safetensors", tmp_path / "plan", mean_rank=4)
    text = (tmp_path / "plan/kohya.txt").read_text()
    found = re.search(r"'block_dims=([0-9,]*)'", text)
    assert found is not None
    dims = [int(dim) for dim in found[1].split(",")]
    assert dims == [4 if place in (4, 12, 24) else 0 for place in range(25)]
    assert f"block_alphas={','.join(str(2 * dim) for dim in dims)}" in text
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert not (tmp_path / "plan/axolotl.yaml").exists()  # of language models only
    assert fields["target_modules"][0] == "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def test_wide_convolutions_of_a_unet_have_lists_of_their_own(tmp_path: Path) -> None:
    random, tensors = np.random.default_rng(0), {}
    for name, kernel in (("attentions_0_proj_in", 1), ("resnets_0_conv1", 3)):
        for block in ("down_blocks_0", "up_blocks_3"):
            path = f"lora_unet_{block}_{name}"
            tensors[f"{path}.lora_down.weight"] = random.normal(size=(4, 8, kernel, kernel)).astype("f4")
            tensors[f"{path}.lora_up.weight"] = random.normal(size=(8, 4, 1, 1)).astype("f4")
            tensors[f"{path}.alpha"] = np.array(8.0, "f4")
    save_file(tensors, tmp_path / "locon.safetensors")
    written(tmp_path / "locon.safetensors", tmp_path / "plan", mean_rank=4)
    text = (tmp_path / "plan/kohya.txt").read_text()
    dims = ",".join("4" if place in (1, 22) else "0" for place in range(25))
    alphas = dims.replace("4", "8")
    assert f"'block_dims={dims}' 'block_alphas={alphas}' 'conv_block_dims={dims}' 'conv_block_alphas={alphas}'" in text


def test_ranks_of_grouped_convolutions_are_rounded_up_and_said(tmp_path: Path) -> None:
    def layers() -> torch.nn.Module:
        blocks = (torch.nn.ModuleDict({"g": torch.nn.Conv2d(8, 8, 3, groups=2)}) for _ in range(3))
        return torch.nn.ModuleDict({"blocks": torch.nn.ModuleList(blocks)})

    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["g"], init_lora_weights=False)
    peft.get_peft_model(layers(), config).save_pretrained(tmp_path / "probe")
    written(tmp_path / "probe", tmp_path / "plan", mean_rank=1)
    fields = json.loads((tmp_path / "plan/peft.json").read_text())
    assert set(ranks_of(peft.get_peft_model(layers(), peft.LoraConfig(**fields))).values()) == {2}
    assert (
        read_plan_targets(tmp_path / "probe").notes[-1].startswith("blocks.0.g, blocks.1.g, blocks.2.g: a convolution")
    )


def test_no_blocks_for_names_that_sd_scripts_does_not_number() -> None:
    path = "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q"  # SDXL in diffusers
    assert block_ranks({path: 4, path.replace("blocks.1.attn1", "blocks.0.attn1"): 4}) == []


@pytest.mark.parametrize(
    ("option", "alpha"),
    [({"use_rslora": True}, 8), ({"use_dora": True}, 4), ({"layer_replication": [[0, 2], [1, 3]]}, 4)],
)
def test_options_that_the_ranks_belong_to_reach_all_trainers(option: dict, alpha: int, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], **option)
    path, base = probe("llama", tmp_path / "probe", config)
    written(path, tmp_path / "plan")
    peft_, axolotl, factory = (
        yaml.safe_load((tmp_path / "plan" / name).read_text())
        for name in ("peft.json", "axolotl.yaml", "llamafactory.yaml")
    )
    ((name, value),) = option.items()
    assert peft_[name] == axolotl[f"peft_{name}"] == value
    assert (factory["lora_rank"], factory["lora_alpha"]) == (2, alpha)
    assert name == "layer_replication" or factory[name] is True
    planned = pd.read_csv(tmp_path / "plan/plan.csv").set_index("path")["rank"].to_dict()
    assert ranks_of(peft.get_peft_model(base, peft.LoraConfig(**peft_))) == planned


def test_llama_factory_has_one_rank_and_says_so(tmp_path: Path) -> None:
    path, _ = probe("llama", tmp_path / "probe")
    written(path, tmp_path / "plan")
    text = (tmp_path / "plan/llamafactory.yaml").read_text()
    assert "no patterns" in text
    assert yaml.safe_load(text) == {
        "lora_rank": 2, "lora_alpha": 4, "lora_target": "down_proj,k_proj,q_proj,v_proj",
    }  # fmt: skip


def test_llama_factory_has_names_of_modules_also_for_a_pattern(tmp_path: Path) -> None:
    path, _ = probe("vit", tmp_path / "probe")
    written(path, tmp_path / "plan")
    names = yaml.safe_load((tmp_path / "plan/llamafactory.yaml").read_text())["lora_target"].split(",")
    paths = pd.read_csv(tmp_path / "plan/plan.csv")["path"]
    assert sorted(names) == sorted({path.rpartition(".")[2] for path in paths})


def test_factors_without_paths_can_be_planned_but_not_written_for_trainers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = {"a": (2, 6), "b": (6, 2)}
    save_file(
        {f"w_{side}_00{n}": random.normal(size=shapes[side]) for n in (0, 1) for side in "ab"},
        tmp_path / "x.safetensors",
    )
    plan = plan_ranks(load_spectra(tmp_path / "x.safetensors"), mean_rank=1.5)
    with pytest.raises(UnsupportedAdapterError, match=r"found numbers .*: ranks can be planned, but not written"):
        read_plan_targets(tmp_path / "x.safetensors")
    assert [path.name for path in write_plan(plan, tmp_path / "plan")] == ["plan.csv", "plan.json"]
    assert json.loads((tmp_path / "plan/plan.json").read_text())["format"] == "msplora-plan"
