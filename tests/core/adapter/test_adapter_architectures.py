"""Every architecture: the stacks that are found, and that nothing is lost in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from msplora_core.adapter import MSPLoraConfig, read_components
from msplora_core.conversion import convert_to_lora
from msplora_core.conversion.disk import convert_adapter

TEXT = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24}
TOKENS = torch.randint(5, 40, (2, 6), generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
GQA = TEXT | {"num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0}


@dataclass
class Architecture:
    """A model class with a small configuration, its targets, and the stacks that they form."""

    model: str
    config: str
    settings: dict[str, Any]
    targets: list[str]
    layers: dict[str, int]
    inputs: dict[str, torch.Tensor]

    def make(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            config = getattr(transformers, self.config)(**self.settings)
            return getattr(transformers, self.model)(config).eval()


def text_model(name: str, **settings: Any) -> Architecture:
    settings = TEXT | {"num_hidden_layers": 3} | settings
    return Architecture(
        f"{name}Model", f"{name}Config", settings, ["query", "value"], {"query": 3, "value": 3}, {"input_ids": TOKENS}
    )


def causal(name: str, **settings: Any) -> Architecture:
    targets = ["q_proj", "v_proj", "down_proj"]
    return Architecture(
        f"{name}ForCausalLM", f"{name}Config", GQA | settings, targets, dict.fromkeys(targets, 4), {"input_ids": TOKENS}
    )


ARCHITECTURES = {
    "bert": text_model("Bert"),
    "roberta": text_model("Roberta", max_position_embeddings=20),
    "electra": text_model("Electra", embedding_size=16),
    "distilbert": Architecture(
        "DistilBertModel", "DistilBertConfig",
        {"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 3, "hidden_dim": 24},
        ["q_lin", "v_lin"], {"q_lin": 3, "v_lin": 3}, {"input_ids": TOKENS},
    ),
    "llama": causal("Llama"),
    "mistral": causal("Mistral"),
    "qwen": causal("Qwen2"),
    "gemma": causal("Gemma"),
    "gpt2": Architecture(
        "GPT2LMHeadModel", "GPT2Config", {"vocab_size": 40, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 20},
        ["c_attn", "c_fc"], {"c_attn": 3, "c_fc": 3}, {"input_ids": TOKENS},
    ),
    "t5": Architecture(
        "T5ForConditionalGeneration", "T5Config",
        {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 3, "num_decoder_layers": 4,
         "num_heads": 4, "decoder_start_token_id": 0},
        ["q", "v"],
        {"encoder.q": 3, "encoder.v": 3, "decoder.SelfAttention.q": 4, "decoder.SelfAttention.v": 4,
         "decoder.EncDecAttention.q": 4, "decoder.EncDecAttention.v": 4},
        {"input_ids": TOKENS, "decoder_input_ids": TOKENS},
    ),
    "bart": Architecture(
        "BartModel", "BartConfig",
        {"vocab_size": 40, "d_model": 16, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 20},
        ["q_proj", "v_proj"],
        {"encoder.q_proj": 3, "encoder.v_proj": 3, "decoder.self_attn.q_proj": 3, "decoder.self_attn.v_proj": 3,
         "decoder.encoder_attn.q_proj": 3, "decoder.encoder_attn.v_proj": 3},
        {"input_ids": TOKENS},
    ),
    "vit": Architecture(
        "ViTModel", "ViTConfig",
        {"image_size": 8, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4,
         "intermediate_size": 24},
        ["q_proj", "v_proj"], {"q_proj": 3, "v_proj": 3}, {"pixel_values": IMAGE},
    ),
    "clip": Architecture(
        "CLIPModel", "CLIPConfig",
        {"text_config": TEXT | {"num_hidden_layers": 3, "max_position_embeddings": 20},
         "vision_config": {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4,
                           "intermediate_size": 24, "image_size": 8, "patch_size": 4}},
        ["q_proj", "v_proj"],
        {"text_model.q_proj": 3, "text_model.v_proj": 3, "vision_model.q_proj": 4, "vision_model.v_proj": 4},
        {"input_ids": TOKENS, "pixel_values": IMAGE},
    ),
}  # fmt: skip


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


@pytest.fixture
def attach(architecture: Architecture) -> Callable[[], tuple[nn.Module, MSPLoraConfig]]:
    def make() -> tuple[nn.Module, MSPLoraConfig]:
        config = MSPLoraConfig(target_modules=architecture.targets, ranks=(4, 3, 2), init_lora_weights=False)
        return get_peft_model(architecture.make(), config).eval(), config

    return make


def output(model: nn.Module, architecture: Architecture) -> torch.Tensor:
    found = model(**architecture.inputs)
    return next(found[name] for name in ("logits", "logits_per_text", "last_hidden_state") if name in found)


def test_each_module_type_of_each_stack_has_a_pyramid(architecture: Architecture, attach: Callable) -> None:
    model, config = attach()
    layers: dict[str, set[int]] = {}
    for site in config.placement.values():
        layers.setdefault(site["module"], set()).add(site["layer"])
    assert layers == {name: set(range(count)) for name, count in architecture.layers.items()}
    found = [component.key for component in read_components(model)]
    counts = {scale: sum(key.scale == scale for key in found) for scale in ("global", "mid", "layer", "total")}
    every = sum(architecture.layers.values())
    assert counts == {"global": len(layers), "mid": 3 * len(layers), "layer": every, "total": every}


def test_trains_saves_loads_and_merges(architecture: Architecture, attach: Callable, tmp_path: Path) -> None:
    model, _ = attach()
    before = output(model, architecture)
    before.square().sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(architecture.make(), tmp_path)
    with torch.no_grad():
        assert torch.equal(output(loaded, architecture), before)
        assert not torch.allclose(output(architecture.make(), architecture), before, atol=1e-3)
        merged = loaded.merge_and_unload()
        assert torch.allclose(output(merged, architecture), before, atol=1e-4, rtol=1e-4)


def test_converts_to_plain_lora_live_and_on_the_disk(
    architecture: Architecture, attach: Callable, tmp_path: Path
) -> None:
    model, _ = attach()
    with torch.no_grad():
        wanted = output(model, architecture)
        converted = convert_to_lora(model)
        assert torch.allclose(output(converted, architecture), wanted, atol=1e-4, rtol=1e-4)
        assert torch.equal(output(model, architecture), wanted)
        model.save_pretrained(tmp_path / "msplora")
        modules = convert_adapter(tmp_path / "msplora", tmp_path / "lora").modules
        assert {module.rank for module in modules} == {9}
        loaded = PeftModel.from_pretrained(architecture.make(), tmp_path / "lora")
        assert isinstance(loaded.peft_config["default"], LoraConfig)
        assert torch.allclose(output(loaded, architecture), wanted, atol=1e-4, rtol=1e-4)


def test_grouped_query_attention_has_a_shape_for_each_module_type() -> None:
    model = get_peft_model(ARCHITECTURES["llama"].make(), MSPLoraConfig(target_modules=["q_proj", "v_proj"]))
    shapes = {c.key.module: c.update.shape for c in read_components(model)}
    assert shapes == {"q_proj": (16, 16), "v_proj": (8, 16)}


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_generation(name: str) -> None:
    architecture = ARCHITECTURES[name]
    if name == "t5":  # its cache counts the encoder's layers
        architecture = replace(architecture, settings=architecture.settings | {"num_layers": 4})
    kind = "SEQ_2_SEQ_LM" if name == "t5" else "CAUSAL_LM"
    config = MSPLoraConfig(target_modules=architecture.targets, init_lora_weights=False, task_type=kind)
    model = get_peft_model(architecture.make(), config).eval()
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(input_ids=TOKENS, **settings)
    assert plain.shape[0] == 2
    beams = model.generate(input_ids=TOKENS, num_beams=2, adapter_names=["default", "__base__"], **settings)
    alone = model.generate(input_ids=TOKENS[:1], num_beams=2, **settings)
    width = min(beams.shape[1], alone.shape[1])
    assert torch.equal(beams[0, :width], alone[0, :width])


def test_timm() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=4, num_classes=3).eval()
    config = MSPLoraConfig(target_modules=["qkv", "fc1", "head"], init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    layers = {(site["module"], site["layer"]) for site in config.placement.values()}
    assert layers == {(name, layer) for name in ("qkv", "fc1") for layer in range(4)} | {("head", None)}
    image = torch.randn(1, 3, 32, 32)
    before = adapted(image)
    assert torch.allclose(adapted.merge_and_unload()(image), before, atol=1e-4)
