"""Ranking and click prediction learned together by one model."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from tfrankloss import errors, functional
from tfrankloss.layers import ApplyToLists
from tfrankloss.models import towers
from tfrankloss.models.scorers import check_network

OUTPUTS = ("clicks", "scores")


@keras.saving.register_keras_serializable(package="tfrankloss")
class JointRankingCTRModel(keras.Model):
    """A model with a ranking and a click head, trained on the weighted sum of their losses.

    Use it where clicks tell of every item shown and graded feedback of few: what the heads share learns from both.
    `joint_ranking_ctr` makes one over list features.
    Labels and outputs are dicts of "scores" and "clicks", (B, L) each; both outputs are log-odds or scores, without a
    sigmoid. `fit` reports the two losses beside their sum.

    Formulas:
        - weighting "fixed": `alpha * ranking + (1 - alpha) * click`, with the click loss the mean over items of the
          cross entropy of the click and the sigmoid of the output
        - weighting "uncertainty": `sum_t exp(-a_t) loss_t + a_t / 2` with learned a_t, of 0 at first, so that the loss
          of greater noise counts less

    Args:
        model: A functional Keras model to a dict of outputs "scores" (B, L) and "clicks" (B, L).
        alpha: Weight of the ranking loss, from 0 to 1; with "uncertainty" it is not used.
        weighting: "fixed" or "uncertainty".
        **kwargs: As in `keras.Model`.

    Raises:
        TypeError: If ``model`` is not a Keras model.
        ValueError: If its outputs are not these two, or a setting is out of its range.

    Example:
        >>> import numpy as np
        >>> from tfrankloss import RankNetLoss
        >>> features = keras.Input((None, 2), name="features")
        >>> heads = {"scores": features[..., 0], "clicks": features[..., 1]}
        >>> model = JointRankingCTRModel(keras.Model(features, heads), alpha=0.3)
        >>> model.compile("adam", RankNetLoss(pairs="binary"))
        >>> x, y = np.array([[[0.6, 1.0], [0.8, -1.0], [0.1, 0.5]]]), np.array([[1.0, 0.0, 1.0]])
        >>> results = model.evaluate(x, {"scores": y, "clicks": y}, verbose=0, return_dict=True)
        >>> {name: round(float(value), 3) for name, value in sorted(results.items())}
        {'click_loss': 0.367, 'loss': 0.827, 'ranking_loss': 1.901}

    Source: documents, pairwise losses, joint learning; Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh
    Losses" (2018), arXiv:1705.07115.
    """

    def __init__(self, model: keras.Model, alpha: float = 0.5, weighting: str = "fixed", **kwargs: Any):
        errors.check_kind("model", model, keras.Model, "a functional Keras model")
        errors.check_share("alpha", alpha)
        errors.check_choice("weighting", weighting, ("fixed", "uncertainty"))
        outputs = getattr(model, "output", None)
        if not isinstance(outputs, Mapping) or tuple(sorted(outputs)) != OUTPUTS:
            raise ValueError(f"`model` must give a dict of 'scores' and 'clicks'. Received: outputs={outputs!r}")
        for name in OUTPUTS:
            errors.check_rank(f"model.output[{name!r}]", outputs[name].shape, 2, "(batch, list_size)")
        super().__init__(inputs=model.input, outputs=model.output, **kwargs)
        self.model = model
        self.alpha = alpha
        self.weighting = weighting
        self.ranking_loss: Any = None
        self.trackers = {name: keras.metrics.Mean(name=name) for name in ("ranking_loss", "click_loss")}
        self.log_variances = None
        if weighting == "uncertainty":
            self.log_variances = self.add_weight(shape=(2,), initializer="zeros", name="log_variances")

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        """As in `keras.Model.compile`.

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: The ranking loss, of labels and scores (B, L); the click loss is the model's own.
            **kwargs: As in `keras.Model.compile`, such as metrics in a dict of "scores" and "clicks"; no loss weights.

        Raises:
            TypeError: If ``loss`` is not a Keras loss.
        """
        errors.check_kind("loss", loss, keras.losses.Loss, "a ranking loss, as in RankNetLoss()")
        super().compile(optimizer, **kwargs)
        self.ranking_loss = loss

    def get_compile_config(self) -> dict[str, Any]:
        """What was compiled, with the ranking loss."""
        return {**super().get_compile_config(), "loss": keras.saving.serialize_keras_object(self.ranking_loss)}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as saved; Keras leaves this to any model with a `compile` of its own."""
        given = keras.saving.deserialize_keras_object(config)
        self.compile(**{name: value for name, value in given.items() if name != "loss_weights"})
        self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The weighted sum of both losses; ``sample_weight`` (B,) weighs lists in both."""
        if not isinstance(y, Mapping) or not set(OUTPUTS) <= set(y):
            raise ValueError("`y` must be a dict of 'scores' and 'clicks'")
        # Keras makes one weight of a list into one for each output.
        weights = sample_weight if isinstance(sample_weight, Mapping) else dict.fromkeys(OUTPUTS, sample_weight)
        ranking = self.ranking_loss(y["scores"], y_pred["scores"], weights["scores"])
        click = _click_loss(y["clicks"], y_pred["clicks"], weights["clicks"])
        for name, value in (("ranking_loss", ranking), ("click_loss", click)):
            self.trackers[name].update_state(value, sample_weight=ops.shape(y_pred["scores"])[0])
        if self.log_variances is None:
            total = self.alpha * ranking + (1 - self.alpha) * click
        else:
            both = ops.stack([ranking, click])
            total = ops.sum(ops.exp(-self.log_variances) * both + self.log_variances / 2)
        for loss in self.losses:
            total = total + loss
        return total

    def ranker(self) -> keras.Model:
        """The functional model to scores (B, L) alone, to serve."""
        return keras.Model(self.model.input, self.model.output["scores"], name=f"{self.name}_ranker")

    def click_model(self) -> keras.Model:
        """The functional model to the probabilities (B, L) of a click alone, to serve."""
        return keras.Model(self.model.input, ops.sigmoid(self.model.output["clicks"]), name=f"{self.name}_clicks")

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor."""
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "alpha": self.alpha,
            "weighting": self.weighting,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "JointRankingCTRModel":
        """The model of ``config``."""
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects=custom_objects)
        return cls(model, **{name: value for name, value in config.items() if name != "model"})


def joint_ranking_ctr(
    num_features: int,
    hidden: Sequence[int] = (128, 64),
    head: Sequence[int] = (32,),
    *,
    activation: Any = "relu",
    dropout: float = 0.0,
    list_size: int | None = None,
    alpha: float = 0.5,
    weighting: str = "fixed",
    name: str = "joint_ranking_ctr",
) -> JointRankingCTRModel:
    """A network over list features that two heads share: one ranks, one predicts clicks.

    Args:
        num_features: Features per item, F.
        hidden: Units of the layers that both heads share.
        head: Units of the layers that each head has of its own.
        activation: Activation of these layers, as in `keras.layers.Dense`.
        dropout: Fraction of each shared layer dropped in training, from 0 to below 1.
        list_size: Items per list, or None where it varies.
        alpha: Weight of the ranking loss, from 0 to 1.
        weighting: "fixed" or "uncertainty", as in `JointRankingCTRModel`.
        name: Name of the model.

    Returns:
        A `JointRankingCTRModel` from features (B, L, F) to "scores" and "clicks", (B, L) each.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is below 1 or another setting is out of its range.

    Example:
        >>> import numpy as np
        >>> from tfrankloss import SoftmaxLoss
        >>> model = joint_ranking_ctr(num_features=2, hidden=(8,), weighting="uncertainty")
        >>> model.compile("adam", SoftmaxLoss())
        >>> x, grades = np.zeros((4, 3, 2)), np.array([[2.0, 1.0, 0.0]] * 4)
        >>> history = model.fit(x, {"scores": grades, "clicks": np.minimum(grades, 1)}, verbose=0)
        >>> sorted(history.history)
        ['click_loss', 'loss', 'ranking_loss']
    """
    check_network(num_features, hidden, dropout)
    check_network(num_features, head, dropout)
    errors.check_positive_integer("list_size", list_size, optional=True)
    item = keras.Input((num_features,), name="features")
    shared = item
    for units in hidden:
        shared = keras.layers.Dense(units, activation=activation)(shared)
        if dropout:
            shared = keras.layers.Dropout(dropout)(shared)
    heads = []
    for bias in (False, True):  # A click's log-odds have a level; no ranking depends on one.
        own = shared
        for units in head:
            own = keras.layers.Dense(units, activation=activation)(own)
        heads.append(keras.layers.Dense(1, use_bias=bias)(own))
    item_model = keras.Model(item, keras.layers.concatenate(heads), name="item_heads")
    inputs = towers.list_inputs(item_model, (list_size,))["features"]
    both = ApplyToLists(item_model, name="heads_of_lists")(inputs)
    lists = keras.Model(inputs, {"scores": both[..., 0], "clicks": both[..., 1]}, name=f"{name}_heads")
    return JointRankingCTRModel(lists, alpha, weighting, name=name)


def _click_loss(clicks: Any, logits: Any, sample_weight: Any) -> Any:
    """The mean over items, padding apart, of the weighted cross entropy of clicks (B, L) and logits (B, L)."""
    losses = functional.sigmoid_cross_entropy_loss(clicks, logits)
    if sample_weight is not None:
        losses = losses * ops.reshape(ops.cast(sample_weight, losses.dtype), (-1, 1))
    count = ops.sum(ops.cast(ops.convert_to_tensor(clicks) >= 0, losses.dtype))
    return ops.sum(losses) / ops.maximum(count, 1.0)
