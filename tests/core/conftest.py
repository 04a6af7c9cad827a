"""Small models with random weights: one to try every operation on, one of every architecture."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("peft", reason="the extra `train` is not installed")

from peft import get_peft_model  # noqa: E402
from torch import nn  # noqa: E402
from transformers import RobertaConfig, RobertaForSequenceClassification  # noqa: E402

from msplora_core.adapter import MSPLoraConfig  # noqa: E402
from msplora_core.adapter.layer import MSPLoraLayer  # noqa: E402


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def base_model() -> Callable[[], nn.Module]:
    """Makes a six-layer RoBERTa, the same each time, without dropout."""

    def make(dtype: torch.dtype = torch.float32) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            config = RobertaConfig(
                vocab_size=50, hidden_size=32, num_hidden_layers=6, num_attention_heads=4, intermediate_size=48,
                max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            )  # fmt: skip
            return RobertaForSequenceClassification(config).to(dtype).eval()

    return make


@pytest.fixture
def tokens() -> torch.Tensor:
    """Four sequences of seven tokens."""
    return torch.randint(5, 50, (4, 7), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def config() -> Callable[..., MSPLoraConfig]:
    """Makes a configuration whose updates are not zero from the start."""

    def make(**changes: object) -> MSPLoraConfig:
        return MSPLoraConfig(**{"target_modules": ["query", "value"], "init_lora_weights": False} | changes)

    return make


@pytest.fixture
def adapted(base_model: Callable, config: Callable) -> Callable[..., nn.Module]:
    """Makes the six-layer RoBERTa with an adapter, in evaluation mode."""

    def make(**changes: object) -> nn.Module:
        return get_peft_model(base_model(), config(**changes)).eval()

    return make


@pytest.fixture
def layers_of() -> Callable[[nn.Module], dict[str, MSPLoraLayer]]:
    def find(model: nn.Module) -> dict[str, MSPLoraLayer]:
        return {path: module for path, module in model.named_modules() if isinstance(module, MSPLoraLayer)}

    return find
