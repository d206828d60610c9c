"""Ranking metrics of the whole catalog during training."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.retrieval.evaluation import evaluate
from tfrankloss.retrieval.exact import Scores, embedding_scores


def two_tower_scores(queries: Any, candidates: Any) -> Callable[[keras.Model], Scores]:
    """A function from a two-tower model, as it is when called, to its scores of all candidates.

    Args:
        queries: Inputs of the query tower by name, one row per query index.
        candidates: Inputs of the candidate tower by name, one row per candidate index.

    Returns:
        The function, for `RetrievalEvaluation`.

    Example:
        >>> import numpy as np
        >>> from tfrankloss.models import two_tower
        >>> user, item = keras.Input((2,), name="user_features"), keras.Input((2,), name="item_features")
        >>> model = two_tower(keras.Model(user, 2 * user), keras.Model(item, item + 0))
        >>> score = two_tower_scores(np.array([[1.0, 3.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))(model)
        >>> score(np.array([0])).tolist()
        [[2.0, 6.0]]
    """
    return lambda model: embedding_scores(
        model.embed_queries(queries), model.embed_candidates(candidates), model.similarity
    )


class RetrievalEvaluation(keras.callbacks.Callback):
    """Evaluates the ranking of the whole catalog after each epoch and writes the metrics into the logs.

    Put it before the callbacks that read the logs, such as `EarlyStopping` and `ModelCheckpoint`, and give those
    ``mode="max"``: Keras cannot tell from the name that more is better.

    Args:
        scores: Function from the model to a function of scores as in `evaluate`, such as `two_tower_scores`. It is
            called after each epoch, so the embeddings are those of that moment.
        relevant: Pairs (P, 2) of query index and relevant candidate index, as in `evaluate`.
        k: Cutoff or cutoffs, as in `evaluate`.
        exclude: Pairs (P, 2) taken out of the ranking, as in `evaluate`.
        popularity: Interactions (N,) of each candidate in training, as in `evaluate`.
        prefix: Stands before the names in the logs, as in "val_ndcg@10".
        verbose: Whether to show a progress bar.

    Raises:
        TypeError: If ``scores`` is not a function; otherwise, after the first epoch, as in `evaluate`.

    Example:
        >>> import numpy as np
        >>> from tfrankloss.models import two_tower
        >>> from tfrankloss import InBatchSoftmaxLoss
        >>> user, item = keras.Input((), name="user", dtype="int32"), keras.Input((), name="item", dtype="int32")
        >>> towers = [keras.Model(x, keras.layers.Embedding(3, 2)(x), name=x.name + "s") for x in (user, item)]
        >>> model = two_tower(*towers)
        >>> model.compile("adam", InBatchSoftmaxLoss())
        >>> evaluation = RetrievalEvaluation(
        ...     two_tower_scores(np.arange(3), np.arange(3)), relevant=[(0, 0), (1, 1), (2, 2)], k=3)
        >>> stopping = keras.callbacks.EarlyStopping("val_ndcg@3", mode="max", patience=5)
        >>> history = model.fit({"user": np.arange(3), "item": np.arange(3)}, np.ones(3), epochs=2, verbose=0,
        ...     callbacks=[evaluation, stopping])
        >>> history.history["val_recall@3"]
        [1.0, 1.0]
    """

    def __init__(
        self,
        scores: Callable[[keras.Model], Scores],
        relevant: Any,
        k: int | Sequence[int] | None = None,
        *,
        exclude: Any = None,
        popularity: Any = None,
        prefix: str = "val_",
        verbose: bool = False,
    ):
        errors.check_callable("scores", scores)
        super().__init__()
        self.scores = scores
        self.relevant = relevant
        self.k = k
        self.exclude = exclude
        self.popularity = popularity
        self.prefix = prefix
        self.verbose = verbose

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate, and add the metrics to ``logs``."""
        metrics = evaluate(
            self.scores(self.model),
            self.relevant,
            self.k,
            exclude=self.exclude,
            popularity=self.popularity,
            verbose=self.verbose,
        )
        if logs is not None:
            logs.update({self.prefix + name: value for name, value in metrics.items()})
