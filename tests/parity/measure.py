"""How far two implementations are apart, over random lists."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Batches of lists of these lengths: 500 lists in all.
LENGTHS = {2: 100, 6: 200, 25: 200}
TOLERANCE = 1e-5


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        theirs: The peer's name.
        ours: Our expression, as a user writes it.
        measure: From a batch of labels and scores to the values and gradients (None for metrics) of ours and theirs.
        labels: What labels look like: "distinct", "graded", "clicks" or "one click".
        columns: Scores per item, or None for one.
        subtopics: Labels per item, of 0 and 1, or None for one.
        padded: Whether a part of the items is padding.
        scales: Sizes of scores.
    """

    theirs: str
    ours: str
    measure: Callable
    labels: str = "distinct"
    columns: int | None = None
    subtopics: int | None = None
    padded: bool = False
    scales: tuple[float, ...] = (0.3, 1.0, 3.0)


def random_batch(row, length, count, random):
    """Labels and scores without ties among the scores, where both sides mean the same."""
    shape = (count, length)
    labels = {
        "distinct": np.argsort(random.normal(size=shape), axis=1) * min(1.0, 4 / length),
        "graded": random.integers(0, 5, shape),
        "clicks": random.integers(0, 2, shape),
        "one click": np.zeros(shape),
    }[row.labels].astype("float32")
    # At least one relevant item per list, which some averages of the peer take for granted.
    labels[:, 0] = np.where(labels.max(axis=1) >= 1, labels[:, 0], 1)
    if row.subtopics is not None:
        labels = (labels[:, :, None] > random.integers(0, 6, (*shape, row.subtopics))).astype("float32")
    if row.padded:
        labels[:, 1:][random.random((count, length - 1)) < 0.3] = -1
    scale = random.choice(row.scales, size=(count, *[1] * (1 if row.columns is None else 2)))
    scores = random.normal(size=shape if row.columns is None else (*shape, row.columns)) * scale
    return labels, scores.astype("float32")


def differences(row, seed=0):
    """The largest relative difference of values and of gradients (None for metrics) over 500 lists.

    A value is compared with its own size, but at least the mean size in its batch; an entry of a gradient with the
    largest entry of its list, but at least the mean of those.
    """
    random = np.random.default_rng(seed)
    of_values, of_gradients = 0.0, None
    for length, count in LENGTHS.items():
        ours, theirs = row.measure(*random_batch(row, length, count, random))
        of_values = max(of_values, _relative(ours[0][:, None], theirs[0][:, None]))
        if theirs[1] is not None:
            gap = _relative(*(gradient.reshape(count, -1) for gradient in (ours[1], theirs[1])))
            of_gradients = max(of_gradients or 0.0, gap)
    return of_values, of_gradients


def _relative(ours, theirs):
    sizes = np.abs(theirs).max(axis=1)
    sizes = np.maximum(sizes, max(sizes.mean(), 1e-30))
    gap = np.abs(ours - theirs) / sizes[:, None]
    return float(gap.max()) if np.isfinite(gap).all() else float("inf")
