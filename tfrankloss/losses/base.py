"""What all ranking losses share: weights, temperature, reduction, dtype and config."""

import abc
from typing import Any

import keras
from keras import ops

from tfrankloss import errors, inputs
from tfrankloss.config import from_config, to_config
from tfrankloss.functional import lists
from tfrankloss.functional.list_softmax import CrossEntropy

Tensor = Any


class RankingLoss(keras.losses.Loss, abc.ABC):
    """Base of the losses over padded lists of items.

    Subclasses name a pure function of ``labels, scores, mask`` and settings; this class reads what Keras hands over,
    divides the scores by the temperature, multiplies item losses by item weights, sums each list and applies Keras'
    reduction over lists. It overrides ``__call__`` because Keras would cast ids to float and broadcast (B,) weights
    over items when B equals L.

    A subclass may set ``score_columns``: its models give that many scores per item, (B, L, columns). It may override
    ``sums`` where a list is added up faster than its items; one further down that overrides ``item_losses`` alone is
    summed from those again.

    Args:
        temperature: Divides the scores; greater than 0.
        reduction: As in ``keras.losses.Loss``, over lists.
        name: Name of the loss.
        dtype: As in ``keras.losses.Loss``; float16 and bfloat16 are computed in float32.
        **settings: Settings of the function, kept for the config.
    """

    score_columns: int | str | None = None

    def __init_subclass__(cls, **arguments: Any):
        super().__init_subclass__(**arguments)
        items, sums = (
            next(place for place, owner in enumerate(cls.__mro__) if name in vars(owner))
            for name in ("item_losses", "sums")
        )
        # Sums of the losses that a parent gives items would pass over those of this class.
        if items < sums:
            cls.sums = RankingLoss.sums  # type: ignore[method-assign]

    def __init__(self, *, temperature: float, reduction: str | None, name: str | None, dtype: Any, **settings: Any):
        errors.check_positive("temperature", temperature)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = temperature
        self.settings = settings
        self._reduce = _Reduction(reduction=reduction, dtype=lists.computing_dtype(self.dtype))

    @abc.abstractmethod
    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """The loss (B, L) of each item, from scores already divided by the temperature."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """The reduced loss; ``sample_weight`` is (), (B,) or (B, 1) for lists and (B, L) for items."""
        with keras.name_scope(self.name):
            values, weights = self.list_losses(y_true, y_pred, sample_weight)
            if weights is None and sample_weight is not None and self.reduction == "mean_with_sample_weight":
                values, weights = self._per_weight(values, y_true, y_pred, sample_weight)
            return self.reduce(values, weights)

    def reduce(self, values: Tensor, weights: Tensor | None) -> Tensor:
        """The losses (B,) of lists, multiplied by their weights (B,) where there are some, as ``reduction`` says."""
        return self._reduce(values, values, sample_weight=weights)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        """The loss (B,) of each list."""
        return self.list_losses(y_true, y_pred, None)[0]

    def list_losses(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Tensor, Tensor | None]:
        """The loss (B,) of each list with its items weighed, and the weights (B,) of the lists, or None for 1."""
        batch = self._read(y_true, y_pred, sample_weight)
        scores, weights = self.scaled(batch.scores, batch.mask), batch.item_weights
        weights = None if weights is None else lists.masked(weights, batch.mask)
        return self.sums(batch.labels, scores, batch.mask, weights), batch.list_weights

    def sums(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        """The sum (B,) of each list's item losses, weighed by ``weights`` (B, L), 0 at padding; None for 1."""
        losses = self.item_losses(labels, scores, mask)
        return ops.sum(losses if weights is None else losses * weights, axis=1)

    def _read(self, y_true: Any, y_pred: Any, sample_weight: Any) -> inputs.ListBatch:
        return inputs.read_lists(y_true, y_pred, sample_weight, lists.computing_dtype(self.dtype), self.score_columns)

    def _per_weight(self, values: Tensor, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Tensor, Tensor]:
        """The loss of each list divided by the mean weight of its items, and that weight, as if given for the list."""
        weights = inputs.mean_item_weight(self._read(y_true, y_pred, sample_weight))
        return lists.ratio(values, weights), weights

    def scaled(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Scores divided by the temperature; from their largest down, where only differences matter."""
        if self.temperature == 1:
            return scores
        scores = lists.clean(scores, mask if self.score_columns is None else mask[:, :, None])
        # Dividing rounds at the size of the scores, which may dwarf their differences.
        return (lists.centered(scores, mask) if self.shift_invariant else scores) / self.temperature

    @property
    def shift_invariant(self) -> bool:
        """Whether the loss stays the same when all scores of a list move by the same amount."""
        return True

    def __repr__(self) -> str:
        settings = {**self.settings, "temperature": self.temperature}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in settings.items())})"

    def get_config(self) -> dict[str, Any]:
        """The settings, from which ``from_config`` makes an equal loss."""
        own = {"dtype": self.dtype, "temperature": self.temperature, **to_config(self.settings)}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RankingLoss":
        """The loss of ``config``."""
        return cls(**from_config(config))


class CrossEntropyLoss(RankingLoss):
    """Base of the losses that are cross entropies of lists: a step adds them up by list, which takes less."""

    @abc.abstractmethod
    def cross_entropy(self, labels: Tensor, scores: Tensor, mask: Tensor) -> CrossEntropy:
        """Targets and scores, the latter already divided by the temperature."""

    def item_losses(self, labels: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """As in ``RankingLoss``."""
        return self.cross_entropy(labels, scores, mask).losses()

    def sums(self, labels: Tensor, scores: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        """As in ``RankingLoss``."""
        return self.cross_entropy(labels, scores, mask).sums(weights)


class _Reduction(keras.losses.Loss):
    """Keras' own reduction, distribution scaling included, for values that are already made."""

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred
