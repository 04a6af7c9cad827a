"""Two processes: gradients equal those of one with the whole batch, replicated and sharded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import copy, torch
import torch.distributed as dist
from peft import get_peft_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from msplora_core.adapter import MSPLoraConfig, read_components
from msplora_core.adapter.factors import Factors

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
    def forward(self, x):
        return x + self.down(self.up(x).tanh())

class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.square().mean()

dist.init_process_group("gloo")
rank = dist.get_rank()
for use_dora in (False, True):
    torch.manual_seed(0)
    config = MSPLoraConfig(
        target_modules=["up", "down"], groups=2, init_lora_weights=False, lora_alpha=2, use_dora=use_dora
    )
    model = get_peft_model(Stack(), config)
    batch = torch.randn(6, 8)
    part = batch[rank * 3 : rank * 3 + 3]
    one = copy.deepcopy(model)
    one(batch).backward()
    wanted = {name: p.grad for name, p in one.named_parameters() if p.requires_grad}

    replicated = copy.deepcopy(model)
    ddp = nn.parallel.DistributedDataParallel(replicated)
    ddp(part).backward()
    for name, p in replicated.named_parameters():
        assert name not in wanted or torch.allclose(p.grad, wanted[name], atol=1e-6), name
    assert len(read_components(ddp)) == 2 * (1 + 2 + 4 + 4)

    mesh = init_device_mesh("cpu", (2,))
    for by_layer in (False, True):
        sharded = copy.deepcopy(model)
        if by_layer:  # what several layers share comes first, as units of their own that stay gathered
            for module in sharded.modules():
                if isinstance(module, Factors):
                    fully_shard(module, mesh=mesh, reshard_after_forward=False)
            for block in sharded.base_model.model.blocks:
                fully_shard(block, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        sharded(part).backward()
        for name, p in sharded.named_parameters():
            assert name not in wanted or torch.allclose(p.grad.full_tensor(), wanted[name], atol=1e-6), name
print("equal")
dist.barrier()  # a process that leaves while the other still communicates aborts it
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_gradients_of_two_processes_replicated_and_sharded(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("equal") == 2
