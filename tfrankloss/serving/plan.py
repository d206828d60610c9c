"""The signatures of an export: what each takes, computes in the graph, and must agree with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.functional.similarity import SIMILARITIES
from tfrankloss.serving import reference
from tfrankloss.serving.features import Features, Specs, Stage
from tfrankloss.serving.index import CandidateIndex, ExactSearch, Measure, l2_normalize

Outputs = dict[str, tf.Tensor]
DEFAULT = "serving_default"
DEFAULT_K = 100


@dataclass(frozen=True)
class Signature:
    """One function of a servable.

    Args:
        name: The name that clients ask for.
        inputs: Its arguments.
        compute: From a dict of tensors to a dict of tensors, traced into the graph.
        gap: How far answers are from the live model's, computed another way.
        listed: The arguments with a list axis that the probe's rows do not have.
    """

    name: str
    inputs: Specs
    compute: Callable[[dict[str, tf.Tensor]], Outputs]
    gap: reference.Gap
    listed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """All that an export writes: its signatures, the models behind them, and the rows that a probe consists of."""

    signatures: tuple[Signature, ...]
    models: tuple[keras.Model, ...]
    features: Specs


def plan(
    model: Any,
    candidates: CandidateIndex | None = None,
    k: int | None = None,
    list_size: int | None = None,
    preprocessing: Mapping[str, keras.Model] | None = None,
) -> Plan:
    """The signatures that `tfrankloss.serving.export` writes for these arguments; see there."""
    errors.check_positive_integer("list_size", list_size, optional=True)
    if hasattr(model, "query_tower") or hasattr(model, "candidate_tower"):
        return _two_tower(model, candidates, k, list_size, _checked(preprocessing, {"query", "candidate"}))
    errors.check_kind("model", model, keras.Model, "a two-tower model (query_tower, candidate_tower) or a keras.Model")
    if candidates is not None:
        raise ValueError("`candidates` must be None for a model without towers. Received: a CandidateIndex")
    return _ranker(model, list_size, _checked(preprocessing, {"inputs"}).get("inputs"))


def _check_output(stage: Stage, wording: str) -> None:
    if not isinstance(stage.model.outputs, list) or len(stage.model.outputs) != 1:
        raise ValueError(f"`{stage.name}` must have one output. {errors.received('outputs', stage.model.outputs)}")
    errors.check_rank(f"{stage.name} output", stage.output_shape, 2, wording)


def _checked(preprocessing: Mapping[str, keras.Model] | None, keys: set[str]) -> Mapping[str, keras.Model]:
    preprocessing = preprocessing or {}
    errors.check_kind("preprocessing", preprocessing, Mapping, "a dict of keras models")  # type: ignore[type-abstract]
    if not set(preprocessing) <= keys:
        raise ValueError(f"`preprocessing` must have keys among {sorted(keys)}. Received: {sorted(preprocessing)}")
    return preprocessing


def _ranker(model: keras.Model, list_size: int | None, preprocessing: keras.Model | None) -> Plan:
    stage = Stage("model", model, preprocessing)
    specs = stage.specs(list_axis=True, list_size=list_size)
    _check_output(stage, "(batch, list_size)")

    def compute(features: dict[str, tf.Tensor]) -> Outputs:
        return {"scores": tf.cast(stage(features), tf.float32)}

    signature = Signature(DEFAULT, specs, compute, reference.output_gap(stage, specs))
    return Plan((signature,), stage.models, specs)


def _two_tower(
    model: Any,
    candidates: CandidateIndex | None,
    k: int | None,
    list_size: int | None,
    preprocessing: Mapping[str, keras.Model],
) -> Plan:
    for attribute in ("query_tower", "candidate_tower", "similarity"):
        if not hasattr(model, attribute):
            raise TypeError(f"`model` must have the attribute {attribute}. {errors.received('model', model)}")
    errors.check_choice("model.similarity", model.similarity, SIMILARITIES)
    query = Stage("model.query_tower", model.query_tower, preprocessing.get("query"))
    candidate = Stage("model.candidate_tower", model.candidate_tower, preprocessing.get("candidate"))
    query_specs, candidate_specs = query.specs(), candidate.specs()
    _check_towers(query, candidate, query_specs, candidate_specs)
    measure = Measure(model.similarity, getattr(model, "temperature", 1.0))
    score = _score(query, candidate, query_specs, candidate_specs, measure, list_size)
    if candidates is None:
        first = replace(score, name=DEFAULT)
    else:
        first = _top_k(query, query_specs, candidates, measure, k)
    embeddings = (
        _embedding("query", query, query_specs, measure),
        _embedding("candidate", candidate, candidate_specs, measure),
    )
    return Plan((first, *embeddings, score), (*query.models, *candidate.models), {**query_specs, **candidate_specs})


def _check_towers(query: Stage, candidate: Stage, query_specs: Specs, candidate_specs: Specs) -> None:
    for stage in (query, candidate):
        _check_output(stage, "(batch, dimension)")
    errors.check_same_shape("query_tower.output", query.output_shape, "candidate_tower.output", candidate.output_shape)
    shared = sorted(set(query_specs) & set(candidate_specs))
    if shared:
        raise ValueError(
            f"`query_tower` and `candidate_tower` must have different input names: one signature takes both. "
            f"Received: {shared} in both"
        )


def _embed(stage: Stage, features: Features) -> tf.Tensor:
    return tf.cast(stage(features), tf.float32)


def _embedding(side: str, stage: Stage, specs: Specs, measure: Measure) -> Signature:
    def compute(features: dict[str, tf.Tensor]) -> Outputs:
        embeddings = _embed(stage, features)
        return {"embedding": l2_normalize(embeddings) if measure.similarity == "cosine" else embeddings}

    return Signature(f"{side}_embedding", specs, compute, reference.embedding_gap(stage, specs, measure))


def _top_k(query: Stage, specs: Specs, candidates: CandidateIndex, measure: Measure, k: int | None) -> Signature:
    errors.check_kind("candidates", candidates, CandidateIndex, "a CandidateIndex or None")
    errors.check_positive_integer("k", k, optional=True)
    k = min(DEFAULT_K, candidates.size) if k is None else int(k)
    if k > candidates.size:
        raise ValueError(f"`k` must be at most the {candidates.size} candidates. {errors.received('k', k)}")
    errors.check_same_shape("candidates", (None, candidates.dimension), "query_tower.output", query.output_shape)
    search = ExactSearch(candidates, measure, k)

    def compute(features: dict[str, tf.Tensor]) -> Outputs:
        return search(_embed(query, features))

    return Signature(DEFAULT, specs, compute, reference.top_k_gap(query, specs, candidates, measure, k))


def _score(
    query: Stage,
    candidate: Stage,
    query_specs: Specs,
    candidate_specs: Specs,
    measure: Measure,
    list_size: int | None,
) -> Signature:
    lists = {
        name: tf.TensorSpec((None, list_size, *spec.shape[1:]), spec.dtype, name=name)
        for name, spec in candidate_specs.items()
    }

    def compute(features: dict[str, tf.Tensor]) -> Outputs:
        queries = _embed(query, {name: features[name] for name in query_specs})
        shape = tf.shape(features[next(iter(lists))])[:2]
        # Fails unless there are as many queries as lists, where broadcasting would answer with something.
        queries = tf.reshape(queries, (shape[0], 1, queries.shape[-1]))
        # The tower embeds the candidates of all lists as one batch.
        flat = {name: tf.reshape(features[name], (-1, *candidate_specs[name].shape[1:])) for name in lists}
        embeddings = tf.reshape(_embed(candidate, flat), (shape[0], shape[1], queries.shape[-1]))
        return {"scores": _pair_scores(measure, queries, embeddings)}

    gap = reference.list_gap(query, candidate, query_specs, candidate_specs, measure)
    return Signature("score", {**query_specs, **lists}, compute, gap, frozenset(lists))


def _pair_scores(measure: Measure, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    if measure.similarity == "euclidean":
        scores = -tf.reduce_sum((queries - candidates) ** 2, axis=-1)
    elif measure.similarity == "cosine":
        scores = tf.reduce_sum(l2_normalize(queries) * l2_normalize(candidates), axis=-1)
    else:
        scores = tf.reduce_sum(queries * candidates, axis=-1)
    return scores / measure.temperature
