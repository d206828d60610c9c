"""The signatures of a ranker, which scores the items of lists, and of a point-wise scorer, which scores rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.serving import reference, serialized
from tfrankloss.serving.features import Features, Specs, Stage
from tfrankloss.serving.search import LOWEST
from tfrankloss.serving.signature import DEFAULT, Outputs, Plan, Settings, Signature, check_output

_MASK = "mask"


def ranker(model: keras.Model, settings: Settings) -> Plan:
    """The plan of a functional model to scores (batch, list_size), or of one to a score per row."""
    stage = Stage("model", model, settings.models_before({"inputs"}).get("inputs"))
    if settings.exclude:
        raise ValueError("`exclude` must be False for a model without towers. Received: True")
    check_output(stage)
    if _is_pointwise(stage):
        return _pointwise(stage, settings)
    lists = _listed(stage, settings)
    specs = stage.specs(lists, settings.list_size)
    errors.check_rank("model output", stage.output_shape, 2, "(batch, list_size)")
    scorer = _Scorer(stage, specs, lists)
    signatures = [_default(scorer, settings.padding)]
    if lists:
        signatures.append(_rank(scorer))
        if settings.example_spec is not None:
            signatures += _serialized(scorer, settings)
    return Plan(tuple(signatures), stage.models, specs)


def _is_pointwise(stage: Stage) -> bool:
    shape = stage.output_shape
    of_one = len(shape) == 2 and shape[1] == 1
    lists_of_one = any(len(tensor.shape) > 2 and tensor.shape[1] == 1 for tensor in stage.inputs.values())
    return len(shape) == 1 or (of_one and not lists_of_one)


def _listed(stage: Stage, settings: Settings) -> frozenset[str]:
    """The features of items: those with the list axis of the scores, unless ``context`` says otherwise."""
    size = stage.output_shape[1] if len(stage.output_shape) > 1 else None
    found = {name for name, tensor in stage.inputs.items() if len(tensor.shape) > 1 and tensor.shape[1] in (None, size)}
    if settings.context is None:
        return frozenset(found)
    unknown = sorted(set(settings.context) - set(stage.inputs))
    if unknown:
        raise ValueError(f"`context` must name inputs among {sorted(stage.inputs)}. Received: {unknown}")
    return frozenset(found - set(settings.context))


@dataclass(frozen=True)
class _Scorer:
    """Scores of lists, by a model that may or may not take a mask itself."""

    stage: Stage
    specs: Specs
    lists: frozenset[str]

    @property
    def takes_mask(self) -> bool:
        """Whether the model has an input of its own that says where items stand."""
        spec = self.specs.get(_MASK)
        return _MASK in self.lists and spec is not None and spec.dtype.is_bool and spec.shape.rank == 2

    @property
    def features(self) -> Specs:
        """The raw features, without the mask."""
        return {key: spec for key, spec in self.specs.items() if not (key == _MASK and self.takes_mask)}

    @property
    def items(self) -> frozenset[str]:
        """The features of items, without the mask."""
        return self.lists & frozenset(self.features)

    @property
    def list_size(self) -> int | None:
        """The length of all lists, if it is fixed."""
        return next((self.specs[key].shape[1] for key in self.lists), None)

    def masked(self, tensors: Features, mask: tf.Tensor) -> tf.Tensor:
        """The scores, the lowest float where no item stands."""
        given = {key: tensors[key] for key in self.features}
        scores = tf.cast(self.stage.graph({**given, _MASK: mask} if self.takes_mask else given), tf.float32)
        return tf.where(mask, scores, LOWEST)

    def live(self, asked: Features) -> np.ndarray:
        """What the live model scores where items stand."""
        return reference.live(self.stage, asked, self.specs, asked[_MASK])

    def with_mask(self, name: str) -> Signature:
        """Features and ``mask`` -> ``outputs``."""
        spec = tf.TensorSpec((None, self.list_size), tf.bool, name=_MASK)
        return Signature(
            name,
            {**self.features, _MASK: spec},
            lambda tensors: {"outputs": self.masked(tensors, tensors[_MASK])},
            lambda asked, got: reference.masked_gap(got["outputs"], self.live(asked), asked[_MASK]),
            features=self.features,
            lists=self.items | {_MASK},
            extend=self.padded,
        )

    def padded(self, features: Features) -> Features:
        """Lists of different lengths: those of a probe with padding at their ends."""
        shape = np.shape(features[next(iter(self.items))])[:2]
        mask = np.arange(shape[1]) < shape[1] - np.arange(shape[0])[:, None] % shape[1]
        return {**blanked(features, self.items, mask), _MASK: mask}


def blanked(features: Features, items: frozenset[str], mask: np.ndarray) -> Features:
    """The features, those of items being 0 or "" where the mask is False."""
    out = dict(features)
    for key in items:
        out[key] = np.array(features[key])
        out[key][~mask] = "" if out[key].dtype == object else 0
    return out


def _check_free(names: set[str], features: Specs) -> None:
    clashing = sorted(names & set(features))
    if clashing:
        raise ValueError(f"`model` must not have inputs named {sorted(names)}: a signature adds these. {clashing}")


def _default(scorer: _Scorer, padding: str | None) -> Signature:
    if padding is None or (padding == _MASK and scorer.takes_mask):
        gap = reference.output_gap(scorer.stage, scorer.specs)

        def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
            return {"scores": tf.cast(scorer.stage.graph(tensors), tf.float32)}

        return Signature(DEFAULT, scorer.specs, compute, gap, lists=scorer.lists)
    _check_free({padding}, scorer.features)
    if not scorer.lists:
        raise ValueError(f"`padding` must be None for a model without features of items. Received: padding={padding!r}")
    spec = tf.TensorSpec((None, scorer.list_size), tf.bool, name=_MASK)
    if padding == "lengths":
        spec = tf.TensorSpec((None,), tf.int32, name="lengths")

    def compute_padded(tensors: dict[str, tf.Tensor]) -> Outputs:
        mask = tensors[padding]
        if padding == "lengths":
            size = tf.shape(tensors[next(iter(scorer.items))])[1]
            valid = tf.reduce_all((mask >= 0) & (mask <= size))
            with tf.control_dependencies([tf.debugging.Assert(valid, ["`lengths` must be from 0 to", size])]):
                mask = tf.sequence_mask(mask, size)
        return {"scores": scorer.masked(tensors, mask)}

    def encode(asked: Features) -> Features:
        mask = asked[_MASK]
        return {**asked, padding: mask.sum(axis=1).astype(np.int32) if padding == "lengths" else mask}

    inner = scorer.with_mask(DEFAULT)
    return replace(
        inner,
        inputs={**scorer.features, padding: spec},
        compute=compute_padded,
        gap=lambda asked, got: inner.gap(asked, {"outputs": got["scores"]}),
        encode=encode,
    )


def _rank(scorer: _Scorer) -> Signature:
    """Features and ``item_ids`` -> ``ids`` and ``scores``, best first; an empty id is padding and stays last."""
    _check_free({"item_ids"}, scorer.features)

    def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
        ids = tensors["item_ids"]
        scores = scorer.masked(tensors, ids != "")
        # Of equal scores the first stays first.
        order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
        return {name: tf.gather(value, order, batch_dims=1) for name, value in (("ids", ids), ("scores", scores))}

    def extend(features: Features) -> Features:
        asked = dict(scorer.padded(features))
        rows, places = np.indices(asked[_MASK].shape)
        names = np.array([f"item {row} {place}" for row, place in zip(rows.flat, places.flat, strict=True)], object)
        asked["item_ids"] = np.where(asked[_MASK], names.reshape(rows.shape), "")
        return asked

    def gap(asked: Features, answers: reference.Answers) -> float:
        table = np.where(asked[_MASK], scorer.live(asked), -np.inf)
        return reference.ranked_gap(table, asked["item_ids"], asked[_MASK].sum(axis=1), answers, "")

    inputs = {**scorer.features, "item_ids": tf.TensorSpec((None, scorer.list_size), tf.string, name="item_ids")}
    lists = scorer.items | {"item_ids"}
    return Signature("rank", inputs, compute, gap, features=scorer.features, lists=lists, extend=extend)


def _serialized(scorer: _Scorer, settings: Settings) -> list[Signature]:
    """``examples``: one ExampleListWithContext per list; ``regress``: one tf.Example per item, scored on its own."""
    specs = scorer.features
    serialized.check_names(settings.example_spec, set(specs))
    rows = serialized.rows_of(specs, scorer.items)
    spec = serialized.example_spec(rows, settings.example_spec)
    lists = serialized.of_lists("examples", "inputs", scorer.with_mask(""), spec, scorer.items, scorer.list_size)
    return [lists, _regress(scorer, rows, spec)]


def _regress(scorer: _Scorer, rows: Specs, spec: serialized.ExampleSpec) -> Signature:
    size = scorer.list_size or 1

    def as_list(value: tf.Tensor) -> tf.Tensor:
        return tf.pad(value[:, None], [[0, 0], [0, size - 1], *[[0, 0]] * (value.shape.rank - 1)])

    def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
        lists = {key: as_list(tensors[key]) if key in scorer.items else tensors[key] for key in rows}
        batch = tf.shape(next(iter(tensors.values())))[0]
        return {"outputs": scorer.masked(lists, tf.sequence_mask(tf.ones((batch,), tf.int32), size))[:, 0]}

    def extend(features: Features) -> Features:
        cut = {key: value[:, :size] if key in scorer.items else value for key, value in features.items()}
        mask = np.zeros(np.shape(cut[next(iter(scorer.items))])[:2], bool)
        mask[:, 0] = True
        return {**blanked(cut, scorer.items, mask), _MASK: mask}

    def first(asked: Features) -> Features:
        return {key: asked[key][:, 0] if key in scorer.items else asked[key] for key in rows}

    def gap(asked: Features, answers: reference.Answers) -> float:
        return reference.relative_gap(answers["outputs"], scorer.live(asked)[:, 0])

    signature = serialized.of_examples("regress", "inputs", Signature("", rows, compute, gap), spec)
    encode: Callable[[Features], Features] = signature.encode
    return replace(signature, features=scorer.features, extend=extend, encode=lambda asked: encode(first(asked)))


def _pointwise(stage: Stage, settings: Settings) -> Plan:
    """``serving_default``: features -> ``scores`` (batch,); ``regress``: the same of serialized tf.Examples."""
    for name in ("context", "padding", "list_size"):
        value: Any = getattr(settings, name)
        if value is not None:
            raise ValueError(f"`{name}` must be None for a model of one score per row. Received: {name}={value!r}")
    specs = stage.specs()

    def scores(tensors: Features) -> tf.Tensor:
        return tf.reshape(tf.cast(stage.graph(tensors), tf.float32), (-1,))

    def gap_of(output: str) -> reference.Gap:
        return lambda asked, got: reference.relative_gap(got[output], reference.live(stage, asked, specs).reshape(-1))

    signatures = [Signature(DEFAULT, specs, lambda tensors: {"scores": scores(tensors)}, gap_of("scores"))]
    if settings.example_spec is not None:
        serialized.check_names(settings.example_spec, set(specs))
        spec = serialized.example_spec(specs, settings.example_spec)
        regress = Signature("", specs, lambda tensors: {"outputs": scores(tensors)}, gap_of("outputs"))
        signatures.append(serialized.of_examples("regress", "inputs", regress, spec))
    return Plan(tuple(signatures), stage.models, specs)
