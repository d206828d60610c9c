"""Sampled negatives for positive pairs: by chance, by popularity, or the hardest of the model as it is."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tfrankloss import errors
from tfrankloss.retrieval.exact import Scores, blocks, check_cutoff, index_pairs

if TYPE_CHECKING:
    import tensorflow as tf

# After this many rounds of drawing again, what is left is drawn exactly, user by user.
_ROUNDS = 16


class Sampler(Protocol):
    """What draws negatives: `NegativeSampler`, `HardestSampler` or one's own."""

    def sample(self, users: np.ndarray, num_negatives: int) -> np.ndarray:
        """Items (B, num_negatives) for users (B,), none of them a positive of its user."""


class NegativeSampler:
    """Draws items that are no positives of their user, uniformly or by popularity.

    Formula: item i of count c_i is drawn with probability `c_i ** alpha / sum_j c_j ** alpha`, conditioned on not being
    a positive of the user; draws are independent, so an item may come twice for a user. The attribute ``probabilities``
    (N,) holds them before conditioning: a logQ correction subtracts their log.

    Args:
        pairs: (P, 2) places of user and item of all known positives, from which items are counted; a repeated pair is
            one positive, but two counts.
        num_items: Size N of the catalog.
        alpha: 0 for uniform draws; 0.75 is usual by popularity, where items without a pair are never drawn.
        seed: Of the draws.

    Raises:
        TypeError: If the pairs are not integers.
        ValueError: If ``alpha`` is below 0, a pair is out of range, or a user would have no negative.

    Examples:
        >>> sampler = NegativeSampler([(0, 0), (1, 1), (2, 1)], num_items=4, alpha=0.5)
        >>> sampler.probabilities.round(3).tolist()
        [0.414, 0.586, 0.0, 0.0]
        >>> sampler.sample(np.array([0, 1]), num_negatives=3).tolist()
        [[1, 1, 1], [0, 0, 0]]
    """

    def __init__(self, pairs: Any, num_items: int, alpha: float = 0.0, seed: int = 0):
        errors.check_positive_integer("num_items", num_items)
        errors.check_not_negative("alpha", alpha)
        counted = np.asarray(pairs if len(pairs) else np.zeros((0, 2), "int64"))
        self.pairs = index_pairs("pairs", counted, num_items)
        self.num_items = num_items
        self.alpha = alpha
        self.seed = seed
        if not len(self.pairs) and alpha > 0:
            raise ValueError("`pairs` must hold at least one pair to draw by popularity. Received: no pair")
        counts = np.bincount(counted[:, 1], minlength=num_items).astype("float64")
        weights = counts**alpha
        self.probabilities = weights / weights.sum()
        drawn = self.probabilities > 0
        taken = np.bincount(self.pairs[:, 0], weights=drawn[self._items()]) if len(self.pairs) else np.zeros(0)
        full = np.flatnonzero(taken >= drawn.sum())
        if len(full):
            raise ValueError(
                "`pairs` must leave every user an item that can be drawn. "
                f"Received: {len(full)} users without one, such as {full[0]}"
            )
        self._keys = self.pairs @ [num_items, 1]
        self._bounds = np.cumsum(self.probabilities) / self.probabilities.sum()
        self._random = np.random.default_rng(seed)

    def _items(self) -> np.ndarray:
        return self.pairs[:, 1]

    def sample(self, users: np.ndarray, num_negatives: int) -> np.ndarray:
        """Items (B, num_negatives) for users (B,), none of them a positive of its user."""
        errors.check_positive_integer("num_negatives", num_negatives)
        owners = np.repeat(np.asarray(users), num_negatives)
        items = self._draw(len(owners))
        open_places = np.flatnonzero(self._is_positive(owners, items))
        for _ in range(_ROUNDS):
            if not len(open_places):
                break
            items[open_places] = self._draw(len(open_places))
            open_places = open_places[self._is_positive(owners[open_places], items[open_places])]
        for user in np.unique(owners[open_places]):
            places = open_places[owners[open_places] == user]
            first, last = np.searchsorted(self.pairs[:, 0], (user, user + 1))
            left = self.probabilities.copy()
            left[self._items()[first:last]] = 0
            items[places] = self._random.choice(self.num_items, len(places), p=left / left.sum())
        return items.reshape(-1, num_negatives)

    def _draw(self, count: int) -> np.ndarray:
        # "right": a bound that is hit belongs to the next item, so an item of probability 0 is never drawn.
        return np.searchsorted(self._bounds, self._random.random(count), side="right")

    def _is_positive(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        if not len(self._keys):
            return np.zeros(len(users), dtype=bool)
        keys = users * self.num_items + items
        return self._keys[np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)] == keys


class HardestSampler:
    """Draws from the items that the model, as it was when last asked, ranks highest but are no positives of the user.

    Call `refresh` before the first draw and, as a rule, before every epoch. The very hardest items are often positives
    that nobody has seen yet: a larger ``pool`` draws fewer of those.

    Args:
        pairs: (P, 2) places of user and item of all known positives.
        num_items: Size N of the catalog.
        num_users: Users 0 to num_users - 1 are ranked.
        pool: How many of the best items of a user to draw from, without an item coming twice.
        seed: Of the draws.

    Raises:
        TypeError: If the pairs are not integers.
        ValueError: If a pair is out of range, or a user has fewer than ``pool`` items that are no positives.

    Examples:
        >>> from tfrankloss.retrieval import embedding_scores
        >>> sampler = HardestSampler([(0, 3)], num_items=4, num_users=1, pool=2)
        >>> sampler.refresh(embedding_scores([[1.0]], [[1.0], [2.0], [3.0], [4.0]]))
        >>> sorted(sampler.sample(np.array([0]), 2)[0].tolist())
        [1, 2]
    """

    def __init__(self, pairs: Any, num_items: int, num_users: int, pool: int = 100, seed: int = 0):
        errors.check_positive_integer("num_items", num_items)
        errors.check_positive_integer("num_users", num_users)
        check_cutoff(pool, num_items)
        self.pairs = index_pairs("pairs", pairs, num_items)
        self.num_items = num_items
        self.num_users = num_users
        self.pool = pool
        self.seed = seed
        if len(self.pairs) and self.pairs[-1, 0] >= num_users:
            raise ValueError(f"`pairs` must hold user indices below {num_users}. Received: {self.pairs[-1, 0]}")
        most = np.bincount(self.pairs[:, 0]).max() if len(self.pairs) else 0
        if num_items - most < pool:
            raise ValueError(
                f"`pool` must be at most {num_items - most}, what a user with {most} positives leaves. "
                f"{errors.received('pool', pool)}"
            )
        self._hardest: np.ndarray | None = None
        self._random = np.random.default_rng(seed)

    def refresh(self, scores: Scores) -> None:
        """Rank the catalog for all users anew, by a function of scores as in `tfrankloss.retrieval.evaluate`."""
        users = np.arange(self.num_users)
        parts = blocks(scores, users, self.num_items, self.pool, self.pairs, verbose=False)
        self._hardest = np.concatenate([columns for _, _, columns in parts])

    def sample(self, users: np.ndarray, num_negatives: int) -> np.ndarray:
        """Items (B, num_negatives) for users (B,), of the pool of each, none twice."""
        if self._hardest is None:
            raise ValueError("`refresh` must be called before the first draw")
        check_cutoff(num_negatives, self.pool)
        order = np.argsort(self._random.random((len(users), self.pool)), axis=1)[:, :num_negatives]
        return np.take_along_axis(self._hardest[users], order, axis=1)


def with_negatives(
    pairs: Any,
    sampler: Sampler,
    num_negatives: int,
    batch_size: int,
    *,
    inputs: Callable[[np.ndarray, np.ndarray], Any] | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> "tf.data.Dataset":
    """Batches of positives with freshly sampled negatives, for `fit` of a two-tower model over lists.

    Args:
        pairs: (P, 2) places of user and item to train on; a repeated pair comes as often.
        sampler: A `NegativeSampler` or `HardestSampler`, or anything with their ``sample``.
        num_negatives: K per positive.
        batch_size: Positives per batch; the last one may have fewer.
        inputs: Function from users (B,) and items (B, 1 + K), the positive first, to the inputs of the model; None for
            a dict of "user" and "item".
        shuffle: Whether every epoch goes through the pairs in a new order.
        seed: Of the order.

    Returns:
        A ``tf.data.Dataset`` of pairs of inputs and labels (B, 1 + K), 1 for the positive and 0 for the others.

    Raises:
        TypeError: If the pairs or sizes are not integers.
        ValueError: If there is no pair or a size is below 1; from the sampler, as it says.

    Examples:
        >>> dataset = with_negatives([(0, 0), (1, 1)], NegativeSampler([(0, 0), (1, 1)], 2), 1, 2, shuffle=False)
        >>> for inputs, labels in dataset:
        ...     print(inputs["user"].numpy().tolist(), inputs["item"].numpy().tolist(), labels.numpy().tolist())
        [0, 1] [[0, 1], [1, 0]] [[1.0, 0.0], [1.0, 0.0]]
    """
    import tensorflow as tf

    errors.check_positive_integer("num_negatives", num_negatives)
    errors.check_positive_integer("batch_size", batch_size)
    errors.check_callable("inputs", inputs, optional=True)
    errors.check_bool("shuffle", shuffle)
    if not len(index_pairs("pairs", pairs)):
        raise ValueError("`pairs` must hold at least one pair. Received: no pair")
    rows = np.asarray(pairs)
    random = np.random.default_rng(seed)
    make = inputs or (lambda users, items: {"user": users, "item": items})

    def batches() -> Iterator[tuple[Any, np.ndarray]]:
        order = random.permutation(len(rows)) if shuffle else np.arange(len(rows))
        for start in range(0, len(rows), batch_size):
            users, positives = rows[order[start : start + batch_size]].T
            items = np.concatenate([positives[:, None], sampler.sample(users, num_negatives)], axis=1)
            labels = np.zeros(items.shape, "float32")
            labels[:, 0] = 1
            yield make(users, items), labels

    def spec(column: Any) -> tf.TensorSpec:
        column = np.asarray(column)
        dtype = tf.string if column.dtype.kind in "OSU" else tf.as_dtype(column.dtype)
        return tf.TensorSpec((None, *column.shape[1:]), dtype)

    # The places of one row tell shapes and dtypes; nothing is drawn for it.
    example = make(rows[:1, 0], np.repeat(rows[:1, 1:], 1 + num_negatives, axis=1))
    signature = (tf.nest.map_structure(spec, example), tf.TensorSpec((None, 1 + num_negatives), tf.float32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(rows) // batch_size)))
