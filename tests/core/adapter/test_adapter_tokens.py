"""Single tokens trained beside the adapter, as PEFT's own tests of `trainable_token_indices` ask of LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from msplora_core.adapter import MSPLoraConfig
from msplora_core.conversion import convert_to_lora
from msplora_core.conversion.disk import convert_adapter
from msplora_core.errors import ParameterError
from msplora_core.formats import read_adapter

TRAINED = [0, 1, 3]
TOKENS = torch.arange(6)[None]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make(tied: bool = False) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LlamaConfig(
            vocab_size=40, hidden_size=16, num_attention_heads=4, intermediate_size=24, num_hidden_layers=3,
            tie_word_embeddings=tied,
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def model(request: pytest.FixtureRequest) -> Callable[..., nn.Module]:
    """Makes a model whose adapter and tokens are trained already."""

    def adapted(**changes: object) -> nn.Module:
        settings = {"target_modules": "all-linear", "trainable_token_indices": TRAINED, "init_lora_weights": False}
        model = get_peft_model(make(request.param), MSPLoraConfig(**settings | changes)).eval()
        embedding(model).token_adapter.trainable_tokens_delta["default"].data.normal_()
        return model

    adapted.base = lambda: make(request.param)
    return adapted


def embedding(model: nn.Module) -> nn.Module:
    return model.base_model.model.model.embed_tokens


def first_hidden(model: nn.Module) -> torch.Tensor:
    return model(TOKENS, output_hidden_states=True).hidden_states[0]


def test_these_tokens_change_and_no_others(model: Callable, tmp_path: Path) -> None:
    trained = model()
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(model.base(), tmp_path)
    assert torch.equal(loaded(TOKENS).logits, trained(TOKENS).logits)
    changed = (first_hidden(loaded) != first_hidden(model.base())).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == TRAINED


def test_only_adapter_and_tokens_are_trained(model: Callable) -> None:
    trained = model().train()
    before = {name: parameter.clone() for name, parameter in trained.named_parameters()}
    trained(TOKENS).logits.square().sum().backward()
    torch.optim.SGD(trained.parameters(), lr=0.1).step()
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter, before[name]) != ("msplora_" in name or "tokens_delta" in name), name


def test_tied_weights_stay_tied() -> None:
    """The tokens of the output layer are those of the input embedding, as with LoRA."""
    settings = {"target_modules": ["q_proj"], "trainable_token_indices": TRAINED}
    ours = get_peft_model(make(tied=True), MSPLoraConfig(**settings)).eval()
    theirs = get_peft_model(make(tied=True), LoraConfig(**settings)).eval()
    new = torch.randn(len(TRAINED), 16)
    for model in (ours, theirs):
        embedding(model).token_adapter.trainable_tokens_delta["default"].data = new
    assert torch.equal(ours(TOKENS).logits, theirs(TOKENS).logits)
    assert not torch.equal(ours(TOKENS).logits[..., TRAINED], make(tied=True)(TOKENS).logits[..., TRAINED])


@pytest.mark.parametrize("safe", [False, True])
def test_merging_and_disabling(model: Callable, safe: bool) -> None:
    trained = model()
    wanted = trained(TOKENS).logits
    trained.merge_adapter(safe_merge=safe)
    assert torch.allclose(trained(TOKENS).logits, wanted, **CLOSE)
    with trained.disable_adapter():
        assert torch.allclose(trained(TOKENS).logits, model.base()(TOKENS).logits, **CLOSE)
    assert torch.allclose(trained(TOKENS).logits, wanted, **CLOSE)
    assert torch.allclose(trained.merge_and_unload(safe_merge=safe)(TOKENS).logits, wanted, **CLOSE)


def test_a_mixed_batch_of_other_tokens(model: Callable) -> None:
    trained = model()
    trained.add_adapter("other", MSPLoraConfig(target_modules=["q_proj"], trainable_token_indices=[2, 4]))
    embedding(trained).token_adapter.trainable_tokens_delta["other"].data.normal_()
    wanted = {"default": trained(TOKENS).logits, "__base__": model.base()(TOKENS).logits}
    trained.set_adapter("other")
    wanted["other"] = trained(TOKENS).logits
    mixed = trained(TOKENS.expand(3, -1), adapter_names=list(wanted)).logits
    for item, logits in zip(mixed, wanted.values(), strict=True):
        assert torch.allclose(item, logits[0], **CLOSE)


def test_conversion_to_plain_lora_takes_the_tokens_over(model: Callable, tmp_path: Path) -> None:
    trained = model()
    wanted = trained(TOKENS).logits
    assert torch.allclose(convert_to_lora(trained)(TOKENS).logits, wanted, **CLOSE)
    trained.save_pretrained(tmp_path / "msplora")
    (note,) = read_adapter(tmp_path / "msplora").notes
    assert note.endswith("trainable_tokens_delta: trained beside the adapter, not a low-rank update.")
    convert_adapter(tmp_path / "msplora", tmp_path / "lora")
    assert torch.allclose(PeftModel.from_pretrained(model.base(), tmp_path / "lora")(TOKENS).logits, wanted, **CLOSE)


def test_an_adapted_embedding_beside_trained_tokens_of_another() -> None:
    """Embeddings by name: one has an adapter, single tokens of the other are trained."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places, self.out = nn.Embedding(20, 8), nn.Embedding(20, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.words(x) + self.places(x))

    config = MSPLoraConfig(target_modules=["words", "out"], trainable_token_indices={"places": TRAINED})
    model = get_peft_model(Two(), config)
    model(TOKENS).sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[2] for name in trained} == {"words", "places", "out"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "expected an embedding that is not in target_modules"),
        (
            {"target_modules": ["embed_tokens"], "trainable_token_indices": {"model.embed_tokens": [1]}},
            "found model.embed_tokens, a target",
        ),
        ({"trainable_token_indices": [40]}, r"expected indices of tokens that the embedding has, found \[40\]"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str) -> None:
    settings = {"target_modules": ["q_proj"], "trainable_token_indices": TRAINED}
    with pytest.raises(ParameterError, match=f"trainable_token_indices: .*{message}"):
        get_peft_model(make(), MSPLoraConfig(**settings | changes))
