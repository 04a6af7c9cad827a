"""Batches with little padding: examples tokenised once, grouped by length, padded to the longest of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

if TYPE_CHECKING:
    from msplora_core.training.data.examples import Examples

IGNORED = -100
"""The label of a token without loss (torch's `ignore_index`)."""

_SPREAD = 0.05  # noise on the lengths before sorting, relative


class TokenisedItems(Dataset[dict[str, torch.Tensor]]):
    """Examples as tokens.

    Args:
        items: for each example `input_ids`, `labels` and further inputs of the model.
    """

    def __init__(self, items: list[dict[str, torch.Tensor]]) -> None:
        self.items = items
        self.lengths = np.array([len(item["input_ids"]) for item in items])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.items[index]

    def labels(self) -> list[float]:
        """Return all labels: classes or scores."""
        return [item["labels"].item() for item in self.items]

    def by_length(self) -> Self:
        """Sort the examples, longest first: the order for evaluation."""
        self.items = [self.items[i] for i in np.argsort(-self.lengths, kind="stable")]
        self.lengths = -np.sort(-self.lengths)
        return self


class EncodedExamples(TokenisedItems):
    """Tokenised sentences or pairs with their labels.

    Args:
        examples: the sentences or pairs.
        tokenizer: of the model.
        max_length: tokens of an example; longer ones are cut.
    """

    def __init__(self, examples: Examples, tokenizer: Any, max_length: int) -> None:
        columns = [list(column) for column in zip(*examples.texts, strict=True)]
        encoded = tokenizer(*columns, truncation=True, max_length=max_length, return_attention_mask=False)
        names = list(encoded.keys())
        super().__init__(
            [
                {name: torch.tensor(encoded[name][i]) for name in names} | {"labels": torch.tensor(label)}
                for i, label in enumerate(examples.labels)
            ]
        )


class LengthBatches(Sampler[list[int]]):
    """Batches of examples of similar length in random order, drawn again each epoch.

    Examples are sorted by their length with some noise, cut into batches whose sizes differ by at most
    one, and the batches shuffled. The order depends on seed and epoch only. With several processes, each
    takes its share of every batch, so that any number of processes trains on the same batches.

    Args:
        lengths: of the examples, in tokens.
        batch_size: largest number of examples in a batch, over all processes.
        seed: of the order.
        process: index of this process.
        processes: number of processes.
        at_a_time: largest number of examples in one forward pass: a process's share of each batch is split into
            `parts` pieces.

    Example:
        >>> batches = LengthBatches([5, 90, 6, 88, 7, 91], batch_size=3, seed=0)
        >>> sorted(sorted(batch) for batch in batches)
        [[0, 2, 4], [1, 3, 5]]
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
        at_a_time: int | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.float64)
        self.count = -(-len(self.lengths) // batch_size)
        self.seed, self.process, self.processes = seed, process, processes
        self.epoch = 0
        least = len(self.lengths) // self.count // processes  # a process's smallest share of a batch
        most = -(-len(self.lengths) // self.count // processes)
        self.parts = max(1, min(least, -(-most // (at_a_time or most))))

    def __len__(self) -> int:
        return self.count * self.parts

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = np.argsort(self.lengths * (1 + _SPREAD * random.random(len(self.lengths))))
        batches = np.array_split(order, self.count)
        for place in random.permutation(self.count):
            share = batches[place][self.process :: self.processes]
            yield from (part.tolist() for part in np.array_split(share, self.parts))


class Padding:
    """Collate examples into one batch, padded on the right to the longest.

    Args:
        pad_id: the padding token.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = {
            name: pad_sequence([item[name] for item in items], True, self.pad_id if name == "input_ids" else 0)
            for name in items[0]
            if name != "labels"
        }
        lengths = torch.tensor([len(item["input_ids"]) for item in items])
        batch["attention_mask"] = (torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]).long()
        labels = [item["labels"] for item in items]
        batch["labels"] = pad_sequence(labels, True, IGNORED) if labels[0].ndim else torch.stack(labels)
        return batch
