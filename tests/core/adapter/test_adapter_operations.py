"""Every operation of PEFT, as it is called for LoRA, an operation a test."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import (
    AutoPeftModelForSequenceClassification,
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from safetensors import safe_open
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.pytorch_utils import Conv1D

from msplora_core.adapter import MSPLoraConfig, set_trainable_scales
from msplora_core.adapter.factors import Factors
from msplora_core.errors import ParameterError

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def output(model: nn.Module, tokens: torch.Tensor, **kwargs: object) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens, **kwargs).logits


def adapter_names(model: nn.Module) -> list[str]:
    return [name for name in model.state_dict() if "msplora_" in name]


def shared_everywhere(model: nn.Module, adapter: str = "default") -> bool:
    """Whether all six layers hold one and the same global component, and each pair its mid component."""
    layers = [module.attention.self.query for module in model.get_submodule("base_model.model.roberta.encoder").layer]
    wide = {id(layer.msplora_global[adapter].A) for layer in layers}
    mid = [id(layer.msplora_mid[adapter].B) for layer in layers]
    own = {id(layer.msplora_layer[adapter].A) for layer in layers}
    return len(wide) == 1 and mid[::2] == mid[1::2] and len(set(mid)) == 3 and len(own) == 6


# Saving and loading


def test_the_file_holds_each_component_once(adapted: Callable, tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "numpy") as file:
        sizes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert sum(a * b for a, b in sizes.values()) == model.get_nb_trainable_parameters()[0]
    assert len(sizes) == 2 * 2 * (1 + 3 + 6)
    query = "base_model.model.roberta.encoder.layer.{}.attention.self.query.msplora_{}.A"
    assert sizes[query.format(0, "global")] == [8, 32]
    assert sizes[query.format(2, "mid")] == [4, 32]
    assert query.format(3, "mid") not in sizes


@pytest.mark.parametrize("low_memory", [False, True])
def test_loading_gives_the_same_outputs_and_no_warning(
    adapted: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path, low_memory: bool
) -> None:
    model = adapted()
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)
        loaded = PeftModel.from_pretrained(base_model(), tmp_path, low_cpu_mem_usage=low_memory)
    assert torch.equal(output(loaded, tokens), output(model, tokens))
    assert shared_everywhere(loaded)
    assert not any(parameter.is_meta for parameter in loaded.parameters())


def test_a_component_that_the_file_lacks_is_missed(adapted: Callable, base_model: Callable, tmp_path: Path) -> None:
    state = get_peft_model_state_dict(adapted())
    lost = next(name for name in state if "msplora_mid" in name)
    del state[lost]
    outcome = set_peft_model_state_dict(adapted(), state)
    missed = [name for name in outcome.missing_keys if "msplora" in name]
    assert missed == [lost.replace("msplora_mid", "msplora_mid.default")]


def test_torch_files(adapted: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "adapter_model.bin").is_file()
    assert torch.equal(output(PeftModel.from_pretrained(base_model(), tmp_path), tokens), output(model, tokens))


def test_a_config_alone_tells_its_type(adapted: Callable, tmp_path: Path) -> None:
    adapted(groups=(2, 4), lora_alpha=(8, 8, 4)).save_pretrained(tmp_path)
    config = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(config, MSPLoraConfig)
    assert (config.groups, config.lora_alpha, config.inference_mode) == ((2, 4), (8, 8, 4), True)


def test_auto_model(base_model: Callable, config: Callable, tokens: torch.Tensor, tmp_path: Path) -> None:
    base_model().save_pretrained(tmp_path / "base")
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, config(task_type="SEQ_CLS")).eval()
    model.save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter").eval()
    assert torch.equal(output(loaded, tokens), output(model, tokens))


def test_transformers_own_loading(
    adapted: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model = adapted()
    model.save_pretrained(tmp_path)
    base = base_model()
    base.load_adapter(str(tmp_path))
    assert torch.allclose(output(base, tokens), output(model, tokens), **CLOSE)
    base.save_pretrained(tmp_path / "again")
    again = PeftModel.from_pretrained(base_model(), tmp_path / "again")
    assert torch.allclose(output(again, tokens), output(model, tokens), **CLOSE)


def test_half_precision_file_from_a_trained_float32_adapter(
    adapted: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model = adapted().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_model(torch.bfloat16), tmp_path)
    factors = [m for m in loaded.modules() if isinstance(m, Factors)]
    assert {p.dtype for m in factors for p in m.parameters()} == {torch.float32}
    assert shared_everywhere(loaded)
    assert torch.allclose(output(loaded, tokens), output(model, tokens), atol=0.05)


@pytest.mark.parametrize("assign", [False, True])
def test_full_state_dict_round_trip(adapted: Callable, tokens: torch.Tensor, assign: bool) -> None:
    model, other = adapted(), adapted()
    state = model.state_dict()
    assert adapter_names(model) == [name for name, _ in model.named_parameters() if "msplora_" in name]
    other.load_state_dict(state, assign=assign)
    assert torch.equal(output(other, tokens), output(model, tokens))
    assert shared_everywhere(other)


def test_state_dicts_with_every_name_load_too(adapted: Callable, tokens: torch.Tensor) -> None:
    model, other = adapted(), adapted()
    full = {
        f"{path}.{name}": parameter.detach()
        for path, module in model.named_modules(remove_duplicate=False)
        for name, parameter in module.named_parameters(recurse=False)
    }
    assert len(full) > len(list(model.named_parameters()))
    assert not other.load_state_dict(full, strict=False).unexpected_keys
    assert torch.equal(output(other, tokens), output(model, tokens))


def test_the_state_dict_of_a_layer_is_whole(adapted: Callable) -> None:
    layer = adapted().base_model.model.roberta.encoder.layer[5].attention.self.query
    assert sum("msplora" in name for name in layer.state_dict()) == 6


def test_adapter_state_dict_into_another_model_under_another_name(adapted: Callable, tokens: torch.Tensor) -> None:
    model, other = adapted(), adapted()
    other.add_adapter("second", MSPLoraConfig(target_modules=["query", "value"]))
    set_peft_model_state_dict(other, get_peft_model_state_dict(model), adapter_name="second")
    other.set_adapter("second")
    assert torch.equal(output(other, tokens), output(model, tokens))


def test_the_model_card_holds_the_code_that_loads_the_adapter(
    adapted: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path
) -> None:
    model = adapted()
    base_model().save_pretrained(tmp_path / "base")
    model.save_pretrained(tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    before = "from transformers import AutoModelForSequenceClassification as Auto; import torch, sys\n"
    before += "base_model, adapter_path = Auto.from_pretrained(sys.argv[1]), sys.argv[2]\n"
    after = "torch.save(model.eval()(torch.load(sys.argv[3])).logits, sys.argv[4])"
    torch.save(tokens, tmp_path / "tokens")
    arguments = [str(tmp_path / name) for name in ("base", "adapter", "tokens", "logits")]
    subprocess.run([sys.executable, "-c", before + code + after, *arguments], check=True)
    assert torch.allclose(torch.load(tmp_path / "logits"), output(model, tokens), **CLOSE)


def test_the_model_card_is_completed_once_and_edits_stay(two: Callable, tmp_path: Path) -> None:
    model = two()
    model.save_pretrained(tmp_path, selected_adapters=["second"])
    card = tmp_path / "README.md"
    assert card.read_text().count("import msplora_core.adapter") == 1
    model.save_pretrained(tmp_path)
    assert card.read_text().count("import msplora_core.adapter") == 1
    card.write_text("# Ours\n")
    model.save_pretrained(tmp_path)
    assert "import msplora_core.adapter" not in card.read_text()
    assert "# Ours" in card.read_text()


# Several adapters


@pytest.fixture
def two(adapted: Callable, config: Callable) -> Callable[[], PeftModel]:
    """Makes a model with adapters of different ranks, groups and targets."""

    def make() -> PeftModel:
        model = adapted()
        model.add_adapter("second", config(ranks=(2, 6, 0), groups=2, target_modules=["value", "key"], lora_alpha=4))
        return model

    return make


def test_add_and_set_adapters_of_different_ranks_and_groups(two: Callable, tokens: torch.Tensor) -> None:
    model = two()
    first = output(model, tokens)
    model.set_adapter("second")
    second = output(model, tokens)
    assert not torch.allclose(first, second)
    assert all(("second" in n) == p.requires_grad for n, p in model.named_parameters() if "msplora" in n)
    model.set_adapter("default")
    assert torch.equal(output(model, tokens), first)
    layers = model.base_model.model.roberta.encoder.layer
    assert layers[0].attention.self.key.msplora_mid["second"] is layers[2].attention.self.key.msplora_mid["second"]
    assert layers[0].attention.self.key.msplora_mid["second"] is not layers[3].attention.self.key.msplora_mid["second"]


def test_a_new_adapter_does_not_train_until_it_is_set(two: Callable) -> None:
    model = two()
    assert not any(p.requires_grad for n, p in model.named_parameters() if "second" in n)
    assert all(p.requires_grad for n, p in model.named_parameters() if "default" in n)


def test_two_active_adapters_add_up(two: Callable, tokens: torch.Tensor) -> None:
    model = two()
    layer = model.base_model.model.roberta.encoder.layer[1].attention.self.value
    model.base_model.set_adapter(["default", "second"])
    x = torch.randn(3, 32)
    with torch.no_grad():
        update = sum(layer.get_delta_weight(name) for name in ("default", "second"))
        assert torch.allclose(layer(x), layer.base_layer(x) + x @ update.T, **CLOSE)


def test_delete_adapter(two: Callable, tokens: torch.Tensor) -> None:
    model = two()
    model.set_adapter("second")
    wanted = output(model, tokens)
    model.delete_adapter("default")
    assert model.active_adapters == ["second"]
    assert not any("default" in name for name in model.state_dict())
    assert torch.equal(output(model, tokens), wanted)
    with pytest.raises(ValueError, match="does not exist"):
        model.delete_adapter("default")


def test_deleting_the_active_adapter_makes_another_one_active(adapted: Callable, config: Callable) -> None:
    model = adapted()
    model.add_adapter("second", config(ranks=(2, 2, 2)))
    with pytest.warns(UserWarning, match="Setting active adapter to second"):
        model.delete_adapter("default")
    assert model.active_adapters == ["second"]


def test_save_and_load_several(two: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path) -> None:
    model = two()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_model(), tmp_path)
    loaded.load_adapter(tmp_path / "second", "second")
    for name in ("default", "second"):
        model.set_adapter(name)
        loaded.set_adapter(name)
        assert torch.equal(output(loaded, tokens), output(model, tokens))


def test_disable_adapter(adapted: Callable, base_model: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    with_adapter = output(model, tokens)
    with model.disable_adapter():
        assert torch.equal(output(model, tokens), output(base_model(), tokens))
    assert torch.equal(output(model, tokens), with_adapter)
    assert not torch.allclose(with_adapter, output(base_model(), tokens))
    assert all(p.requires_grad for n, p in model.named_parameters() if "msplora" in n)


def test_mixed_batch(two: Callable, base_model: Callable, tokens: torch.Tensor) -> None:
    model = two()
    wanted = {"__base__": output(base_model(), tokens)}
    for name in ("default", "second"):
        model.set_adapter(name)
        wanted[name] = output(model, tokens)
    names = ["second", "__base__", "default", "second"]
    mixed = output(model, tokens, adapter_names=names)
    for item, name in enumerate(names):
        assert torch.allclose(mixed[item], wanted[name][item], **CLOSE)
    assert torch.allclose(output(model, tokens), wanted["second"], **CLOSE)


@pytest.mark.parametrize(
    ("names", "train", "merge", "message"),
    [
        (["default"], False, False, "Length of `adapter_names` should be the same as the number of inputs"),
        (["nobody"] * 4, False, False, "non-existing adapter\\(s\\): nobody"),
        (["default"] * 4, True, False, "in training mode"),
        (["default"] * 4, False, True, "when there are merged adapters"),
    ],
)
def test_mixed_batches_that_cannot_be(
    two: Callable, tokens: torch.Tensor, names: list[str], train: bool, merge: bool, message: str
) -> None:
    model = two().train(train)
    if merge:
        model.merge_adapter()
    with pytest.raises(ValueError, match=message):
        output(model, tokens, adapter_names=names)


# Merging


def test_merge_and_unload(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    before = output(model, tokens)
    merged = model.merge_and_unload()
    assert torch.allclose(output(merged, tokens), before, **CLOSE)
    assert not any("msplora" in type(module).__module__ for module in merged.modules())
    assert b"msplora" not in pickle.dumps(merged)


def test_unload(adapted: Callable, base_model: Callable, tokens: torch.Tensor) -> None:
    base = adapted().unload()
    assert torch.equal(output(base, tokens), output(base_model(), tokens))
    assert set(base.state_dict()) == set(base_model().state_dict())


@pytest.mark.parametrize("safe", [False, True])
def test_merge_and_unmerge(adapted: Callable, tokens: torch.Tensor, safe: bool) -> None:
    model = adapted()
    layer = model.base_model.model.roberta.encoder.layer[3].attention.self.value
    before, weight = output(model, tokens), layer.base_layer.weight.clone()
    model.merge_adapter(safe_merge=safe)
    assert layer.merged
    assert not torch.equal(layer.base_layer.weight, weight)
    assert torch.allclose(output(model, tokens), before, **CLOSE)
    model.unmerge_adapter()
    assert not layer.merged
    assert torch.allclose(layer.base_layer.weight, weight, atol=1e-6)
    assert torch.allclose(output(model, tokens), before, **CLOSE)


def test_merging_twice_warns_and_does_nothing(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    model.merge_adapter()
    once = output(model, tokens)
    with pytest.warns(UserWarning, match="All adapters are already merged"):
        model.merge_adapter()
    assert torch.equal(output(model, tokens), once)


def test_merge_several(two: Callable, tokens: torch.Tensor) -> None:
    model = two()
    model.base_model.set_adapter(["default", "second"])
    before = output(model, tokens)
    merged = model.merge_and_unload(adapter_names=["default", "second"])
    assert torch.allclose(output(merged, tokens), before, **CLOSE)


def test_disabling_unmerges(adapted: Callable, base_model: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.allclose(output(model, tokens), output(base_model(), tokens), **CLOSE)


def test_safe_merge_refuses_a_broken_adapter_and_keeps_the_weight(adapted: Callable) -> None:
    model = adapted()
    layer = model.base_model.model.roberta.encoder.layer[0].attention.self.query
    weight = layer.base_layer.weight.clone()
    layer.msplora_layer["default"].A.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="The adapter default seems to be broken"):
        model.merge_and_unload(safe_merge=True)
    assert torch.equal(layer.base_layer.weight, weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_merge_into_half_precision(
    base_model: Callable, config: Callable, tokens: torch.Tensor, dtype: torch.dtype
) -> None:
    model = get_peft_model(base_model(dtype), config()).eval()
    before = output(model, tokens)
    merged = model.merge_and_unload()
    assert {parameter.dtype for parameter in merged.parameters()} == {dtype}
    assert torch.allclose(output(merged, tokens), before, atol=0.1)


# What else a configuration can ask for


def test_modules_to_save(base_model: Callable, config: Callable, tokens: torch.Tensor, tmp_path: Path) -> None:
    model = get_peft_model(base_model(), config(modules_to_save=["classifier"])).eval()
    classifier = model.base_model.model.classifier.modules_to_save["default"]
    classifier.out_proj.weight.data += 1
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_model(), tmp_path)
    assert torch.equal(output(loaded, tokens), output(model, tokens))
    assert torch.allclose(output(model.merge_and_unload(), tokens), output(loaded, tokens), **CLOSE)


def test_a_task_type_saves_its_head(base_model: Callable, config: Callable) -> None:
    model = get_peft_model(base_model(), config(task_type="SEQ_CLS"))
    assert all(p.requires_grad for n, p in model.named_parameters() if "classifier.modules_to_save" in n)


@pytest.mark.parametrize(("bias", "count"), [("none", 0), ("lora_only", 12), ("all", None)])
def test_bias(
    base_model: Callable, config: Callable, tokens: torch.Tensor, tmp_path: Path, bias: str, count: int | None
) -> None:
    model = get_peft_model(base_model(), config(bias=bias)).eval()
    biases = {name: p for name, p in model.named_parameters() if name.endswith("bias")}
    trained = [name for name, p in biases.items() if p.requires_grad]
    assert len(trained) == (len(biases) if count is None else count)
    for name in trained:
        biases[name].data += 0.5
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_model(), tmp_path)
    assert torch.equal(output(loaded, tokens), output(model, tokens))


def test_exclude_modules(base_model: Callable, config: Callable) -> None:
    chosen = config(exclude_modules=r".*layer\.[01]\..*")
    get_peft_model(base_model(), chosen)
    assert {site["layer"] for site in chosen.placement.values()} == {2, 3, 4, 5}


def test_layers_to_transform(base_model: Callable, config: Callable) -> None:
    chosen = config(layers_to_transform=[1, 3, 5], groups=3)
    get_peft_model(base_model(), chosen)
    assert {site["layer"]: site["group"] for site in chosen.placement.values()} == {1: 0, 3: 1, 5: 2}


def test_targets_by_regular_expression(base_model: Callable, config: Callable) -> None:
    chosen = config(target_modules=r".*\.self\.(query|key)")
    get_peft_model(base_model(), chosen)
    assert {site["module"] for site in chosen.placement.values()} == {"query", "key"}


@pytest.mark.parametrize(
    ("how", "starts_at_zero"), [(True, True), ("gaussian", True), ("orthogonal", True), (False, False)]
)
def test_initialisation(
    adapted: Callable, base_model: Callable, tokens: torch.Tensor, how: bool | str, starts_at_zero: bool
) -> None:
    model = adapted(init_lora_weights=how)
    same = torch.allclose(output(model, tokens), output(base_model(), tokens), **CLOSE)
    assert same == starts_at_zero
    factors = next(m for m in model.modules() if isinstance(m, Factors))
    assert factors.A.abs().max() > 0
    assert (factors.B.abs().max() > 0) == (how in (False, "orthogonal"))
    if how is True:
        assert factors.A.abs().max() <= 1 / 32**0.5


def test_orthogonal_initialisation_needs_even_ranks(adapted: Callable) -> None:
    with pytest.raises(ParameterError, match="ranks: expected even ranks for init_lora_weights='orthogonal', found 3"):
        adapted(init_lora_weights="orthogonal", ranks=(4, 3, 2))


def test_print_trainable_parameters_counts_shared_ones_once(
    adapted: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    adapted().print_trainable_parameters()
    count = 2 * 64 * (8 + 3 * 4 + 6 * 2)
    assert f"trainable params: {count:,} " in capsys.readouterr().out


# Injection


def test_inject_adapter_in_model(
    adapted: Callable, base_model: Callable, config: Callable, tokens: torch.Tensor
) -> None:
    model = adapted()
    injected = inject_adapter_in_model(config(), base_model())
    outcome = set_peft_model_state_dict(injected, get_peft_model_state_dict(model))
    assert not outcome.unexpected_keys
    assert not [name for name in outcome.missing_keys if "msplora" in name]
    assert torch.equal(output(injected, tokens), output(model, tokens))
    assert get_peft_model_state_dict(injected).keys() == {
        name.removeprefix("base_model.model.") for name in get_peft_model_state_dict(model)
    }


@pytest.mark.parametrize("ranks", [(8, 4, 2), (8, 0, 0)])
def test_inject_from_a_state_dict(
    adapted: Callable, base_model: Callable, tokens: torch.Tensor, ranks: tuple[int, int, int]
) -> None:
    model = adapted(ranks=ranks)
    state = {k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(model).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        injected = inject_adapter_in_model(model.peft_config["default"], base_model(), state_dict=state)
    set_peft_model_state_dict(injected, state)
    assert torch.equal(output(injected, tokens), output(model, tokens))


# What torch and transformers do with a model


def test_deep_copy(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    copied = copy.deepcopy(model)
    assert torch.equal(output(copied, tokens), output(model, tokens))
    assert shared_everywhere(copied)
    assert not {id(p) for p in copied.parameters()} & {id(p) for p in model.parameters()}
    assert len(adapter_names(copied)) == 40


def test_pickle_and_torch_save(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)):
        assert torch.equal(output(other, tokens), output(model, tokens))
        assert shared_everywhere(other)


def test_moving_keeps_sharing(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    assert shared_everywhere(model.to(torch.float64))
    assert shared_everywhere(model.half())
    assert shared_everywhere(model.to_empty(device="meta"))


def test_compile(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    before = output(model, tokens)
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.allclose(output(compiled, tokens), before, **CLOSE)
    compiled(input_ids=tokens, labels=torch.zeros(4, dtype=torch.long)).loss.backward()
    assert shared_everywhere(model)
    own = copy.deepcopy(model)
    own.zero_grad()
    own(input_ids=tokens, labels=torch.zeros(4, dtype=torch.long)).loss.backward()
    for (name, one), (_, other) in zip(model.named_parameters(), own.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.allclose(one.grad, other.grad, atol=1e-6), name


def gradients(model: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(input_ids=tokens, labels=torch.tensor([0, 1, 1, 0])).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(adapted: Callable, tokens: torch.Tensor, reentrant: bool) -> None:
    model = adapted().train()
    plain = gradients(model, tokens)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    checkpointed = gradients(model, tokens)
    assert plain.keys() == checkpointed.keys()
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-6) for name in plain)


def test_autocast(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    before = output(model, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(output(model, tokens).float(), before, atol=0.1)
        assert all(torch.isfinite(gradient).all() for gradient in gradients(model, tokens).values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_base_with_float32_adapter(
    base_model: Callable, config: Callable, tokens: torch.Tensor, dtype: torch.dtype
) -> None:
    model = get_peft_model(base_model(dtype), config())
    assert {p.dtype for n, p in model.named_parameters() if "msplora" in n} == {torch.float32}
    assert output(model, tokens).dtype == dtype
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model, tokens).values())
    same = get_peft_model(base_model(dtype), config(), autocast_adapter_dtype=False)
    assert {p.dtype for n, p in same.named_parameters() if "msplora" in n} == {dtype}
    assert output(same, tokens).dtype == dtype


def test_one_input_without_a_batch(adapted: Callable) -> None:
    layer = adapted().base_model.model.roberta.encoder.layer[0].attention.self.query
    x = torch.randn(32)
    assert torch.allclose(layer(x), layer(x[None])[0], **CLOSE)
    assert layer(torch.randn(0, 32)).shape == (0, 32)


def test_layers_tell_their_sizes_as_those_of_lora_do() -> None:
    base = nn.ModuleDict({"linear": nn.Linear(5, 7), "embedding": nn.Embedding(11, 3), "conv1d": Conv1D(4, 6)})
    own = get_peft_model(copy.deepcopy(base), MSPLoraConfig(target_modules=list(base))).base_model.model
    lora = get_peft_model(copy.deepcopy(base), LoraConfig(target_modules=list(base))).base_model.model
    for name in base:
        sizes = own[name].in_features, own[name].out_features
        assert sizes == (lora[name].in_features, lora[name].out_features), name
    assert (own["linear"].in_features, own["linear"].out_features) == (5, 7)


def test_layer_and_model_status(two: Callable) -> None:
    model = two()
    status = model.get_model_status()
    assert (status.peft_types, status.enabled) == ({"default": "MSPLORA", "second": "MSPLORA"}, True)
    assert status.available_adapters == ["default", "second"]
    assert status.requires_grad == {"default": True, "second": False}
    layers = model.get_layer_status()
    assert {layer.module_type for layer in layers} == {"msplora.Linear"}


def test_trainer(adapted: Callable, base_model: Callable, tokens: torch.Tensor, tmp_path: Path) -> None:
    model = adapted()
    before = get_peft_model_state_dict(copy.deepcopy(model))
    data = [{"input_ids": row, "labels": torch.tensor(i % 2)} for i, row in enumerate(tokens)]
    arguments = TrainingArguments(
        tmp_path, max_steps=2, save_steps=1, learning_rate=0.01, report_to="none", use_cpu=True, disable_tqdm=True
    )
    Trainer(model, arguments, train_dataset=data).train()
    assert all(not torch.equal(before[name], value) for name, value in get_peft_model_state_dict(model).items())
    resumed = adapted()
    trainer = Trainer(resumed, arguments, train_dataset=data)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    for name, value in get_peft_model_state_dict(model).items():
        assert torch.allclose(value, get_peft_model_state_dict(resumed)[name], atol=1e-6)


# Training


def test_the_gradient_of_a_shared_component_is_the_sum_over_its_layers(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    apart = copy.deepcopy(model)
    for module in apart.modules():  # give every layer components of its own
        for name in ("msplora_global", "msplora_mid"):
            if hasattr(module, name):
                getattr(module, name)["default"] = copy.deepcopy(getattr(module, name)["default"])
    shared, single = gradients(model, tokens), gradients(apart, tokens)
    assert len(single) > len(shared)
    path = "base_model.model.roberta.encoder.layer.{}.attention.self.query.msplora_{}.default.{}"
    for factor in "AB":
        total = sum(single[path.format(layer, "global", factor)] for layer in range(6))
        assert torch.allclose(shared[path.format(0, "global", factor)], total, atol=1e-6)
        pair = sum(single[path.format(layer, "mid", factor)] for layer in (2, 3))
        assert torch.allclose(shared[path.format(2, "mid", factor)], pair, atol=1e-6)
        assert torch.allclose(shared[path.format(4, "layer", factor)], single[path.format(4, "layer", factor)])


@pytest.mark.parametrize("ranks", [(8, 4, 2), (3, 0, 2), (16, 8, 8)])
def test_forward_is_the_sum_over_scales(adapted: Callable, ranks: tuple[int, int, int]) -> None:
    layer = adapted(ranks=ranks, lora_alpha=(3, 5, 7)).base_model.model.roberta.encoder.layer[4].attention.self.value
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    layer.double()
    wanted = layer.base_layer(x)
    for scale, alpha, rank in zip(("global", "mid", "layer"), (3, 5, 7), ranks, strict=True):
        if rank:
            factors = layer.components(scale)["default"]
            wanted = wanted + (x @ factors.A.T @ factors.B.T) * (alpha / rank)
    assert torch.allclose(layer(x), wanted, atol=1e-12)
    update = layer.get_delta_weight("default")
    assert torch.allclose(x @ update.T, wanted - layer.base_layer(x), atol=1e-12)


def test_dropout_acts_in_training_only(adapted: Callable) -> None:
    layer = adapted(lora_dropout=0.5).base_model.model.roberta.encoder.layer[0].attention.self.query
    x = torch.randn(3, 32)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def trained_scales(model: nn.Module, adapter: str = "default") -> set[str]:
    named = [name for name, p in model.named_parameters() if p.requires_grad and f".{adapter}." in name]
    return {name.split("msplora_")[1].split(".")[0] for name in named if "msplora_" in name}


def test_training_scale_by_scale(adapted: Callable, tokens: torch.Tensor) -> None:
    model = adapted()
    for scales in (["global"], ["mid"], ["layer"], ["global", "layer"], ["global", "mid", "layer"]):
        set_trainable_scales(model, scales)
        assert trained_scales(model) == set(scales)
        changed = gradients(model, tokens)
        assert {name.split("msplora_")[1].split(".")[0] for name in changed} == set(scales)


def test_the_trained_scales_stay_so_through_peft(two: Callable) -> None:
    model = two()
    set_trainable_scales(model, ["mid"], "default")
    with model.disable_adapter():
        assert trained_scales(model) == set()
    assert trained_scales(model) == {"mid"}
    model.set_adapter("second")
    assert trained_scales(model, "second") == {"global", "mid"}
    model.set_adapter("default")
    assert trained_scales(model) == {"mid"}
    assert trained_scales(copy.deepcopy(model)) == {"mid"}
    model.base_model.set_trainable_scales(["global", "mid", "layer"])
    assert trained_scales(model) == {"global", "mid", "layer"}


def test_an_unknown_adapter_is_refused_by_name(two: Callable) -> None:
    with pytest.raises(ParameterError, match="adapter_name: expected one of default, second, found typo"):
        set_trainable_scales(two(), ["mid"], "typo")
    with pytest.raises(ParameterError, match="adapter_name: expected one of default, second, found typo"):
        two().base_model.set_trainable_scales(["mid"], "typo")


def test_unknown_scales_and_models_without_msplora_are_refused(adapted: Callable, base_model: Callable) -> None:
    with pytest.raises(ParameterError, match=r"scales: expected global, mid, layer, found \['total'\]"):
        set_trainable_scales(adapted(), ["total"])
    with pytest.raises(ParameterError, match="model: expected a model with MSPLoRA, found RobertaFor"):
        set_trainable_scales(base_model(), ["mid"])
