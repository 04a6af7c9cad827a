"""DyLoRA's random ranks: what a step computes and trains, without a Trainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import TrainerState

from msplora_core.errors import ParameterError
from msplora_core.training.random_rank import RandomRank


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return y


def attached(rank: int, pattern: dict[str, int] | None = None) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=rank, lora_alpha=16, target_modules=["first", "second"], rank_pattern=pattern or {})
    model = get_peft_model(Two(), config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn_like(parameter)
    return model.double()


def begun(model: Any, seed: int = 0) -> RandomRank:
    callback = RandomRank(seed)
    callback.on_train_begin(None, None, None, model=model)
    return callback


def test_a_step_is_that_of_lora_at_the_drawn_rank() -> None:
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(2)).double()
    wide = attached(4)
    callback = begun(wide)
    for rank in (1, 2, 3, 4):
        narrow = attached(rank)
        for (_, left), (_, right) in zip(narrow.named_parameters(), wide.named_parameters(), strict=True):
            left.data = right.data[tuple(slice(size) for size in left.shape)].clone()
        callback.rank = rank
        wide.zero_grad()
        out, expected = wide.train()(x), narrow.train()(x)
        torch.testing.assert_close(out, expected)
        out.square().sum().backward()
        expected.square().sum().backward()
        for (name, left), (_, right) in zip(narrow.named_parameters(), wide.named_parameters(), strict=True):
            if left.requires_grad:
                kept = tuple(slice(size) for size in left.shape)
                torch.testing.assert_close(right.grad[kept], left.grad)
                above = right.grad[rank:] if "lora_A" in name else right.grad[:, rank:]
                assert not above.any()
    callback.rank = 1
    full = wide.eval()(x)
    callback.on_train_end(None, None, None)
    torch.testing.assert_close(wide.train()(x), full, atol=0, rtol=0)  # evaluation has the full rank


def test_ranks_are_uniform_and_depend_on_seed_and_step_alone() -> None:
    callback = begun(attached(4))
    drawn = [callback.rank_at(step) for step in range(4000)]
    counts = [drawn.count(rank) for rank in (1, 2, 3, 4)]
    assert sum(counts) == 4000
    assert all(abs(count - 1000) < 5 * 27.4 for count in counts)  # five standard deviations of a binomial
    other = begun(attached(4))
    other.on_step_begin(None, TrainerState(global_step=17), None)
    assert other.rank == drawn[17]
    assert [begun(attached(4), seed=1).rank_at(step) for step in range(20)] != drawn[:20]


def test_a_module_of_lower_rank_is_used_in_full() -> None:
    x = torch.ones(1, 6).double()
    model = attached(4, {"second": 2})
    callback = begun(model)
    assert callback.highest == 4
    callback.rank = 3
    second = model.base_model.model.second
    h = torch.ones(1, 5).double()
    torch.testing.assert_close(second.train()(h), second.eval()(h))
    assert (model.train()(x) - model.eval()(x)).abs().max() > 1e-3


def test_a_model_without_lora_is_refused() -> None:
    with pytest.raises(ParameterError) as caught:
        begun(Two())
    assert str(caught.value) == "model: expected linear modules with LoRA of PEFT, found Two"
