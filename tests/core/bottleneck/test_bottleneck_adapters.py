"""Bottleneck adapters: the formula of the paper, counts, and what PEFT does with every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from msplora_core import BottleneckConfig, read_adapter
from msplora_core.bottleneck.bottleneck_layer import BottleneckLayer
from msplora_core.errors import ParameterError, UnsupportedAdapterError

SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50}
TOKENS = torch.arange(12).view(2, 6) + 3


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SHAPE)).eval()


def roberta() -> RobertaForSequenceClassification:
    return RobertaForSequenceClassification(RobertaConfig(**SHAPE)).eval()


def distilbert() -> DistilBertForSequenceClassification:
    config = DistilBertConfig(dim=32, n_layers=3, n_heads=4, hidden_dim=64, vocab_size=50)
    return DistilBertForSequenceClassification(config).eval()


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()


def attached(base: Any, seed: int = 1, **fields: Any) -> Any:
    torch.manual_seed(seed)
    task = "CAUSAL_LM" if isinstance(base, LlamaForCausalLM) else "SEQ_CLS"
    return get_peft_model(base, BottleneckConfig(bottleneck_size=4, task_type=task, **fields)).eval()


def adapters(model: Any) -> dict[str, BottleneckLayer]:
    return {path: module for path, module in model.named_modules() if isinstance(module, BottleneckLayer)}


def moved(model: Any, seed: int = 2) -> Any:
    """The model after a step that leaves no trained tensor where it began."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    ("base", "attention", "feed_forward", "norms"),
    [
        (bert, "attention.output.dense", "output.dense", ("attention.output.LayerNorm", "output.LayerNorm")),
        (roberta, "attention.output.dense", "output.dense", ("attention.output.LayerNorm", "output.LayerNorm")),
        (distilbert, "attention.out_lin", "ffn.lin2", ("sa_layer_norm", "output_layer_norm")),
        (llama, "self_attn.o_proj", "mlp.down_proj", ("input_layernorm", "post_attention_layernorm")),
    ],
)
def test_adapters_follow_both_output_projections_and_norms_train(
    base: Any, attention: str, feed_forward: str, norms: tuple[str, str]
) -> None:
    model = base()
    before = model(TOKENS).logits
    tuned = attached(model)
    assert len(adapters(tuned)) == 6
    assert sum(path.endswith(f".{attention}") for path in adapters(tuned)) == 3
    assert sum(path.endswith(f".{feed_forward}") for path in adapters(tuned)) >= 3
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert all(any(f".{norm}." in name for norm in norms) or "bottleneck_" in name or "classifier" in name
               for name in trained)  # fmt: skip
    assert sum(".modules_to_save." in name and "norm" in name.lower() and name.endswith("weight")
               for name in trained) == 6  # fmt: skip
    torch.testing.assert_close(tuned(TOKENS).logits, before, atol=1e-3, rtol=0)  # near the identity
    moved(tuned)
    assert (tuned(TOKENS).logits - before).abs().max() > 0.01
    with tuned.disable_adapter():
        torch.testing.assert_close(tuned(TOKENS).logits, before, atol=0, rtol=0)


def test_the_update_is_that_of_the_paper() -> None:
    """Computed by hooks on the base model, which know nothing of the method."""
    tuned = moved(attached(bert(), train_layer_norms=False))
    reference = bert()
    reference.classifier = tuned.base_model.model.classifier.modules_to_save["default"]
    for path, layer in adapters(tuned).items():
        down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]

        def transform(_: Any, __: Any, h: torch.Tensor, down: Any = down, up: Any = up) -> torch.Tensor:
            z = h @ down.weight.T + down.bias
            z = z * 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z**3)))
            return h + z @ up.weight.T + up.bias

        reference.get_submodule(path.removeprefix("base_model.model.")).register_forward_hook(transform)
    torch.testing.assert_close(tuned(TOKENS).logits, reference(TOKENS).logits)


def test_initial_weights_are_cut_at_two_standard_deviations_and_biases_zero() -> None:
    layers = adapters(attached(bert(), init_std=0.02)).values()
    linears = [
        linear for layer in layers for linear in (layer.bottleneck_down["default"], layer.bottleneck_up["default"])
    ]
    weights = torch.cat([linear.weight.flatten() for linear in linears])
    assert weights.abs().max() <= 0.04
    torch.testing.assert_close(weights.std().item(), 0.02 * 0.8796, rtol=0.05, atol=0)  # of a normal cut at 2
    assert not any(linear.bias.any() for linear in linears)


def test_counts_are_those_of_the_papers() -> None:
    """2md + d + m an adapter (Houlsby et al., 2.1); 0.3M and 0.9M for AdapterDrop in Table 1 of MSPLoRA."""
    with torch.device("meta"):
        for size, layers, norms, count in (
            (64, None, True, 24 * (2 * 64 * 768 + 768 + 64) + 24 * 2 * 768),
            (13, range(5, 12), False, 14 * (2 * 13 * 768 + 768 + 13)),
            (41, range(5, 12), False, 14 * (2 * 41 * 768 + 768 + 41)),
        ):
            config = RobertaConfig(vocab_size=50265, num_labels=2)
            fields = {"bottleneck_size": size, "layers_to_transform": layers, "train_layer_norms": norms}
            tuned = get_peft_model(RobertaForSequenceClassification(config), BottleneckConfig(**fields))
            trained = sum(p.numel() for name, p in tuned.named_parameters() if p.requires_grad)
            assert trained == count
            assert size == 64 or round(count / 1e6, 1) == {13: 0.3, 41: 0.9}[size]


def test_layers_without_adapters_stay_frozen() -> None:
    tuned = attached(bert(), layers_to_transform=[1, 2])
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert not any("layer.0." in name for name in trained)
    assert sum("layer.1." in name for name in trained) == sum("layer.2." in name for name in trained) == 12


def test_it_is_read_back_with_its_norms_and_head(tmp_path: Path) -> None:
    tuned = moved(attached(bert(), layers_to_transform=[2]))
    tuned.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(bert(), tmp_path).eval()
    torch.testing.assert_close(again(TOKENS).logits, tuned(TOKENS).logits, atol=0, rtol=0)
    assert "import msplora_core.bottleneck" in (tmp_path / "README.md").read_text()
    with pytest.raises(UnsupportedAdapterError, match="depends on the input"):
        read_adapter(tmp_path)


def test_several_adapters_do_not_disturb_each_other() -> None:
    tuned = moved(attached(bert()))
    first = tuned(TOKENS).logits
    tuned.add_adapter("other", BottleneckConfig(bottleneck_size=2, task_type="SEQ_CLS"))
    torch.testing.assert_close(tuned(TOKENS).logits, first, atol=0, rtol=0)
    tuned.set_adapter("other")
    moved(tuned)
    assert (tuned(TOKENS).logits - first).abs().max() > 0.01
    tuned.set_adapter("default")
    torch.testing.assert_close(tuned(TOKENS).logits, first, atol=0, rtol=0)
    tuned.delete_adapter("other")
    assert all(list(layer.bottleneck_down) == ["default"] for layer in adapters(tuned).values())


def test_it_trains_on_a_model_in_bfloat16() -> None:
    tuned = attached(llama().to(torch.bfloat16))
    assert {layer.bottleneck_up["default"].weight.dtype for layer in adapters(tuned).values()} == {torch.float32}
    out = tuned(TOKENS, labels=TOKENS)
    out.loss.backward()
    assert out.logits.dtype == torch.bfloat16
    assert all(layer.bottleneck_up["default"].weight.grad.any() for layer in adapters(tuned).values())


def test_it_cannot_be_merged_but_taken_off() -> None:
    base = bert()
    before = base(TOKENS).logits
    tuned = moved(attached(base))
    for merge in (tuned.merge_and_unload, tuned.merge_adapter):
        with pytest.raises(UnsupportedAdapterError) as caught:
            merge()
        assert str(caught.value) == ("bottleneck adapters: the update depends on the input, so it cannot be merged")
    assert not adapters(tuned.unload())
    assert before.shape == (2, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ParameterError) as caught:
        BottleneckConfig(init_std=0)
    assert str(caught.value) == "init_std: expected a number above 0, found 0"
    with pytest.raises(ParameterError) as caught:
        attached(bert(), target_modules=["dropout"])
    assert str(caught.value) == ("target_modules: expected linear modules, found bert.embeddings.dropout, a Dropout")
    with pytest.raises(ParameterError) as caught:
        attached(bert(), target_modules=["o_proj"], layers_to_transform=[1])
    assert str(caught.value) == (
        "target_modules: expected linear modules of the model: classifier, dense, key, query, value, "
        "found o_proj in layers [1], which match none"
    )
    with pytest.raises(ParameterError) as caught:
        attached(GPT2ForSequenceClassification(GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=50)))
    assert str(caught.value) == (
        "target_modules: expected the output projections of attention and feed-forward network, as in "
        "attention.output.dense, output.dense of BERT, found none, and no default for a model of type gpt2"
    )
