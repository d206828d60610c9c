"""The shapes of batches that losses and metrics take, and the ways to rearrange one.

There are lists of items, lists whose items have a label per subtopic, and rows of embeddings.

A rearranged batch tells where each of its scores came from, so that one check serves padding and order in all shapes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

# What may stand in a padded score.
JUNK = (0.0, 1e30, -1e30, float("inf"), float("-inf"), float("nan"))


class Batch(NamedTuple):
    """``y_true`` and ``y_pred`` of a loss."""

    y_true: np.ndarray
    y_pred: np.ndarray


class Rearranged(NamedTuple):
    """A batch made of another one.

    Attributes:
        y_true: As the loss takes it.
        y_pred: As the loss takes it.
        source: In the shape of ``y_pred``: the flat index of each score in the first batch, -1 for padding.
        list_source: The index of each list (or row) in the first batch, -1 for padding.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    source: np.ndarray
    list_source: np.ndarray


def _places(values):
    """The flat index of each value, in the shape of the values."""
    return np.arange(values.size).reshape(values.shape)


def quarters(lowest, highest):
    """Numbers with few digits, so that ties are common and examples shrink to something readable."""
    return st.integers(int(4 * lowest), int(4 * highest)).map(lambda n: n / 4)


@dataclass(frozen=True)
class Lists:
    """Labels (B, L) and scores (B, L) or (B, L, columns), padding where a label is below 0.

    With ``positive_first`` column 0 has a meaning of its own: it stays first, whatever is padded or put in another
    order.
    """

    positive_scores: bool = False
    positive_first: bool = False
    distinct_labels: bool = False
    graded_labels: bool = True
    label_step: float = 1.0
    largest_score: float = 3.4e38
    columns: int | None = None
    shape = (3, 5)
    padding = 3

    @property
    def score_shape(self):
        return self.shape if self.columns is None else (*self.shape, self.columns)

    @property
    def largest_label(self):
        return 3 if self.graded_labels else 1

    @property
    def huge(self):
        """Scores of all sizes at which the loss is still a number."""
        sizes = (-3.4e38, -1e30, -1e15, -1e4, 0.0, 1e-30, 1e4, 1e10, 1e30, 3.4e38)
        return [size for size in sizes if abs(size) <= self.largest_score]

    def batches(self):
        """Batches without padding, as hypothesis draws them."""
        lowest = 0.25 if self.positive_scores else -4
        scores = st_numpy.arrays("float32", self.score_shape, elements=quarters(lowest, 4), fill=st.nothing())
        grades = st.integers(0, self.largest_label)
        labels = st_numpy.arrays("float32", self.shape, elements=grades, fill=st.nothing())
        if self.distinct_labels:
            order = st.permutations(range(self.shape[1]))
            labels = st.tuples(*[order] * self.shape[0]).map(lambda rows: self.label_step * np.array(rows, "float32"))
        return st.builds(Batch, labels, scores)

    def sample(self, generator, scale=1.0, offset=0.0):
        """A batch of generic scores, without ties among them."""
        scores = generator.normal(size=self.score_shape)
        scores = np.exp(scores) if self.positive_scores else scores * scale + offset
        labels = generator.integers(0, min(self.largest_label + 1, 3), self.shape)
        if self.distinct_labels:
            labels = self.label_step * np.argsort(generator.normal(size=self.shape), axis=1)
        return Batch(labels.astype("float32"), scores.astype("float32"))

    def pad(self, batch, generator, junk):
        """The batch with padding anywhere between its items."""
        lists, length = batch.y_pred.shape[:2]
        total = length + self.padding
        y_true = np.full((lists, total, *batch.y_true.shape[2:]), -1, "float32")
        y_pred = np.full((lists, total, *batch.y_pred.shape[2:]), junk, "float32")
        source = np.full(y_pred.shape, -1)
        for row, own in enumerate(_places(batch.y_pred)):
            places = np.sort(generator.choice(total, length, replace=False))
            if self.positive_first:
                places[0] = 0
            y_true[row, places] = batch.y_true[row]
            y_pred[row, places] = batch.y_pred[row]
            source[row, places] = own
        return Rearranged(y_true, y_pred, source, np.arange(lists))

    def permute(self, batch, generator):
        """The batch with the items of each list in another order."""
        keys = generator.random(self.shape)
        if self.positive_first:
            keys[:, 0] = -1
        rows, order = np.arange(self.shape[0]), np.argsort(keys, axis=1)
        y_true, y_pred, source = (values[rows[:, None], order] for values in (*batch, _places(batch.y_pred)))
        return Rearranged(y_true, y_pred, source, rows)

    def uninformative(self, one_grade, one_item):
        """Lists with nothing to learn: all padding and, if asked for, items without relevance, and one item."""
        y_true = np.full((4, 5), -1, "float32")
        y_true[0, 0 if self.positive_first else 2] = 1 if one_item else -1
        y_true[1] = 0 if one_grade else -1
        y_true[2, 1] = 0 if one_grade or one_item else -1
        shape = (4, 5) if self.columns is None else (4, 5, self.columns)
        scores = np.linspace(0.5, 3, np.prod(shape)).reshape(shape).astype("float32")
        return Batch(y_true, scores)


@dataclass(frozen=True)
class Subtopics(Lists):
    """Labels (B, L, S) and scores (B, L); a label below 0 is that of a subtopic that the list does not have."""

    subtopics = 2

    def batches(self):
        """Batches without padded items, as hypothesis draws them."""
        shape = (*self.shape, self.subtopics)
        labels = st_numpy.arrays("float32", shape, elements=st.integers(-1, 2), fill=st.nothing())
        return st.builds(lambda batch, labels: Batch(self._judged(labels), batch.y_pred), super().batches(), labels)

    def sample(self, generator, scale=1.0, offset=0.0):
        """A batch of generic scores, without ties among them."""
        labels = generator.integers(-1, 3, (*self.shape, self.subtopics)).astype("float32")
        return Batch(self._judged(labels), super().sample(generator, scale, offset).y_pred)

    def _judged(self, labels):
        """Labels of which each item has one."""
        return np.where(labels.max(axis=2, keepdims=True) < 0, 0, labels).astype("float32")


@dataclass(frozen=True)
class Rows:
    """Targets and embeddings (B, 2 + K, D), padding in rows with a target below 0; last ids of known positives."""

    ids: bool = False
    negatives: int = 1
    known: int = 0
    padding = 2
    # Embeddings whose products are finite: of others float32 has no similarity.
    huge = (-1e15, -1e10, -1e4, 0.0, 1e-30, 1e4, 1e10, 1e15)

    @property
    def shape(self):
        return (4, 2 + self.negatives, 2)

    @property
    def _width(self):
        return 1 + self.negatives + self.known

    def _targets(self):
        if self.ids:
            return st_numpy.arrays("int32", (4, self._width), elements=st.integers(0, 3), fill=st.nothing())
        return st_numpy.arrays("float32", (4, 1), elements=st.integers(0, 2), fill=st.nothing())

    def batches(self):
        """Batches without padding, as hypothesis draws them."""
        # No coordinate is 0: at a zero vector the cosine has no gradient to compare with.
        coordinates = quarters(0.25, 3).flatmap(lambda size: st.sampled_from([size, -size]))
        embeddings = st_numpy.arrays("float32", self.shape, elements=coordinates, fill=st.nothing())
        return st.builds(Batch, self._targets(), embeddings)

    def sample(self, generator, scale=1.0):
        """A batch of generic embeddings; ``scale`` is that of their products, about."""
        embeddings = generator.normal(size=self.shape)
        # Away from the zero vector, where the cosine bends too fast for finite differences.
        embeddings = (embeddings + 0.5 * np.sign(embeddings)) * np.sqrt(scale)
        y_true = generator.integers(0, 3, (4, self._width) if self.ids else (4, 1))
        return Batch(y_true.astype("int32" if self.ids else "float32"), embeddings.astype("float32"))

    def pad(self, batch, generator, junk):
        """The batch with padded rows anywhere between its rows."""
        rows = len(batch.y_true)
        places = np.sort(generator.choice(rows + self.padding, rows, replace=False))
        y_true = np.full((rows + self.padding, *batch.y_true.shape[1:]), -1, batch.y_true.dtype)
        y_pred = np.full((rows + self.padding, *batch.y_pred.shape[1:]), junk, "float32")
        y_true[places], y_pred[places] = batch
        list_source = np.full(rows + self.padding, -1)
        list_source[places] = np.arange(rows)
        return Rearranged(y_true, y_pred, self._source(list_source), list_source)

    def permute(self, batch, generator):
        """The batch with its rows in another order."""
        order = generator.permutation(len(batch.y_true))
        return Rearranged(batch.y_true[order], batch.y_pred[order], self._source(order), order)

    def _source(self, rows):
        return np.where(rows[:, None, None] >= 0, _places(np.empty(self.shape))[rows], -1)

    def uninformative(self, one_grade, one_item):
        """Rows with nothing to learn: padding, and one row whose candidate is all there is."""
        y_true = np.full((4, 2) if self.ids else (4, 1), -1, "int32" if self.ids else "float32")
        embeddings = np.linspace(0.5, 3, 16).reshape(4, 2, 2).astype("float32")
        y_true = y_true[:, :1] if not self.known else np.full((4, 1 + self.known), -1, "int32")
        y_true[1] = 1
        return Batch(y_true, embeddings)
