"""Labelled sentences and pairs of sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_SUBSET_SEED = 0  # fixed, so that runs of all seeds train on the same examples
_LABEL_SEED = 1


@dataclass(frozen=True)
class Examples:
    """Labelled sentences or pairs.

    Args:
        texts: one tuple per example, of one sentence or two.
        labels: class numbers or scores.
    """

    texts: list[tuple[str, ...]]
    labels: list[int | float]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: ArrayLike) -> Examples:
        """Return the examples at these indices, in their order."""
        import numpy as np

        places = np.asarray(indices).tolist()
        return Examples([self.texts[i] for i in places], [self.labels[i] for i in places])

    def subset(self, count: int | None) -> Examples:
        """Return a fixed random choice of examples in their order; all if there are no more than `count`.

        Example:
            >>> Examples([("a",), ("b",), ("c",)], [0, 1, 0]).subset(2)
            Examples(texts=[('a',), ('c',)], labels=[0, 0])
        """
        return self.select(chosen(len(self), count))

    def with_permuted_labels(self) -> Examples:
        """Return the same texts with their labels permuted, with a fixed seed.

        Example:
            >>> Examples([(letter,) for letter in "abcde"], [0, 1, 2, 3, 4]).with_permuted_labels().labels
            [4, 0, 1, 2, 3]
        """
        import numpy as np

        order = np.random.default_rng(_LABEL_SEED).permutation(len(self))
        return Examples(self.texts, [self.labels[i] for i in order.tolist()])


def chosen(total: int, count: int | None) -> NDArray[np.intp]:
    """Return ascending indices of a fixed random choice; all if `count` is None or above `total`.

    Example:
        >>> chosen(3, 2).tolist(), chosen(3, 5).tolist()
        ([0, 2], [0, 1, 2])
    """
    import numpy as np

    order = np.random.default_rng(_SUBSET_SEED).permutation(total)[:count]
    return np.sort(order)
