"""The signatures of models that search: two towers, and those that score a whole catalogue."""

from dataclasses import replace
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.functional.similarity import SIMILARITIES
from tfrankloss.serving import reference, serialized
from tfrankloss.serving.features import Features, Specs, Stage
from tfrankloss.serving.index import CandidateIndex, Measure
from tfrankloss.serving.search import ExactSearch, l2_normalize
from tfrankloss.serving.signature import DEFAULT, Outputs, Plan, Settings, Signature, check_output

DEFAULT_K = 100


def two_towers(model: Any, settings: Settings) -> Plan:
    """The plan of a model with ``query_tower``, ``candidate_tower`` and ``similarity``."""
    for attribute in ("query_tower", "candidate_tower", "similarity"):
        if not hasattr(model, attribute):
            raise TypeError(f"`model` must have the attribute {attribute}. {errors.received('model', model)}")
    errors.check_choice("model.similarity", model.similarity, SIMILARITIES)
    _check_settings(settings, "a two-tower model", ("context", "padding"))
    before = settings.models_before({"query", "candidate"})
    query = Stage("model.query_tower", model.query_tower, before.get("query"))
    candidate = Stage("model.candidate_tower", model.candidate_tower, before.get("candidate"))
    query_specs, candidate_specs = query.specs(), candidate.specs()
    _check_towers(query, candidate, query_specs, candidate_specs)
    measure = Measure(model.similarity, getattr(model, "temperature", 1.0))
    score = _score(query, candidate, query_specs, candidate_specs, measure, settings.list_size)
    if isinstance(settings.candidates, CandidateIndex) and settings.candidates.embeddings is None:
        raise ValueError("`candidates` must have embeddings for a two-tower model. Received: embeddings=None")
    if settings.candidates is None:
        first: tuple[Signature, ...] = (replace(score, name=DEFAULT),)
    else:
        first = _searches(query, query_specs, settings.candidates, measure, settings)
    embeddings = (
        _embedding("query", query, query_specs, measure),
        _embedding("candidate", candidate, candidate_specs, measure),
    )
    models = (*query.models, *candidate.models)
    return Plan((*first, *embeddings, score), models, {**query_specs, **candidate_specs})


def catalog(model: keras.Model, settings: Settings) -> Plan:
    """The plan of a functional model to scores (batch, N) of a whole catalogue, whose ids are the candidates."""
    _check_settings(settings, "a model of a whole catalog", ("context", "padding", "list_size"))
    stage = Stage("model", model, settings.models_before({"inputs"}).get("inputs"))
    check_output(stage)
    errors.check_rank("model.output", stage.output_shape, 2, "(batch, candidates)")
    specs, candidates = stage.specs(), cast(CandidateIndex, settings.candidates)
    errors.check_kind("candidates", candidates, CandidateIndex, "a CandidateIndex or None")
    if candidates.embeddings is not None:
        raise ValueError(
            "`candidates` must be without embeddings for a model that has no towers, as in CandidateIndex(ids). "
            f"Received: embeddings of shape {candidates.embeddings.shape}"
        )

    def compute(features: dict[str, tf.Tensor]) -> Outputs:
        return {"scores": _embed(stage, features)}

    scores = Signature("scores", specs, compute, reference.output_gap(stage, specs))
    return Plan((*_searches(stage, specs, candidates, Measure("dot"), settings), scores), stage.models, specs)


def _check_settings(settings: Settings, kind: str, unused: tuple[str, ...]) -> None:
    for name in unused:
        if getattr(settings, name) is not None:
            raise ValueError(f"`{name}` must be None for {kind}. Received: {name}={getattr(settings, name)!r}")
    if settings.candidates is None and settings.exclude:
        raise ValueError("`exclude` must be False without `candidates`: there is nothing to leave out. Received: True")


def _check_towers(query: Stage, candidate: Stage, query_specs: Specs, candidate_specs: Specs) -> None:
    for stage in (query, candidate):
        check_output(stage)
        errors.check_rank(f"{stage.name} output", stage.output_shape, 2, "(batch, dimension)")
    errors.check_same_shape("query_tower.output", query.output_shape, "candidate_tower.output", candidate.output_shape)
    shared = sorted(set(query_specs) & set(candidate_specs))
    if shared:
        raise ValueError(
            f"`query_tower` and `candidate_tower` must have different input names: one signature takes both. "
            f"Received: {shared} in both"
        )


def _embed(stage: Stage, features: Features) -> tf.Tensor:
    return tf.cast(stage.graph(dict(features)), tf.float32)


def _embedding(side: str, stage: Stage, specs: Specs, measure: Measure) -> Signature:
    def compute(features: dict[str, tf.Tensor]) -> Outputs:
        embeddings = _embed(stage, features)
        return {"embedding": l2_normalize(embeddings) if measure.similarity == "cosine" else embeddings}

    return Signature(f"{side}_embedding", specs, compute, reference.embedding_gap(stage, specs, measure))


def _searches(
    query: Stage, specs: Specs, candidates: CandidateIndex, measure: Measure, settings: Settings
) -> tuple[Signature, ...]:
    """``serving_default``, the same of serialized features, and ``search`` with all that can be asked besides."""
    errors.check_kind("candidates", candidates, CandidateIndex, "a CandidateIndex or None")
    errors.check_positive_integer("k", settings.k, optional=True)
    k = min(DEFAULT_K, candidates.size) if settings.k is None else int(settings.k)
    if k > candidates.size:
        raise ValueError(f"`k` must be at most the {candidates.size} candidates. {errors.received('k', k)}")
    errors.check_same_shape("candidates", (None, candidates.dimension), f"{query.name}.output", query.output_shape)
    asked = _asked(query, specs, candidates, settings.exclude)
    search = ExactSearch(candidates, measure, k)
    expected = reference.TopK(query, specs, candidates, measure)
    excluded = {"exclude_ids": asked["exclude_ids"]} if settings.exclude else {}
    best = _search(DEFAULT, query, specs, excluded, search, candidates, expected, k)
    signatures = [best, _search("search", query, specs, asked, search, candidates, expected, k)]
    if settings.example_spec is not None:
        serialized.check_names(settings.example_spec, set(specs))
        spec = serialized.example_spec(specs, settings.example_spec)
        plain = _search("", query, specs, {}, search, candidates, expected, k)
        signatures += [
            serialized.of_examples("examples", "examples", plain, spec),
            serialized.of_examples("classify", "inputs", _classes(plain, candidates.ids.dtype), spec),
        ]
    return tuple(signatures)


def _asked(query: Stage, specs: Specs, candidates: CandidateIndex, exclude: bool | int) -> Specs:
    """The arguments of ``search`` besides the features."""
    width = None if isinstance(exclude, bool) else int(exclude)
    asked = {
        "k": tf.TensorSpec((None,), tf.int32, name="k"),
        "exclude_ids": tf.TensorSpec((None, width), candidates.id_dtype, name="exclude_ids"),
    }
    for attribute in candidates.attributes:
        asked[f"{attribute}_in"] = tf.TensorSpec((None, None), tf.int64, name=f"{attribute}_in")
    clashing = sorted(set(asked) & set(specs))
    if clashing:
        raise ValueError(f"`{query.name}` must not have inputs named {sorted(asked)}. Received: {clashing}")
    return asked


def _search(
    name: str,
    query: Stage,
    specs: Specs,
    asked: Specs,
    search: ExactSearch,
    candidates: CandidateIndex,
    expected: reference.TopK,
    k: int,
) -> Signature:
    def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
        queries = _embed(query, {key: tensors[key] for key in specs})
        return search(queries, {key: tensors[key] for key in asked})

    def extend(features: Features) -> Features:
        return {**features, **_made(asked, candidates, k, len(next(iter(features.values()))))}

    def gap(features: Features, answers: reference.Answers) -> float:
        return expected.gap(features, answers, k)

    return Signature(name, {**specs, **asked}, compute, gap, features=specs, extend=extend)


def _made(asked: Specs, candidates: CandidateIndex, k: int, batch: int) -> Features:
    """Requests of a probe: some ids to leave out, one of them unknown, some values to filter by, any ``k``."""
    generator = np.random.default_rng(batch)
    made: dict[str, np.ndarray] = {}
    for name, spec in asked.items():
        width = spec.shape[1] or 3 if spec.shape.rank == 2 else 0
        if name == "k":
            made[name] = generator.integers(1, k + 1, batch).astype(np.int32)
        elif name == "exclude_ids":
            made[name] = candidates.ids[generator.integers(0, candidates.size, (batch, width))]
            made[name][:, 0] = candidates.blank
        else:
            values = candidates.attributes[name.removesuffix("_in")]
            made[name] = values[generator.integers(0, candidates.size, (batch, width))]
    return made


def _classes(search: Signature, ids_dtype: np.dtype) -> Signature:
    """The answers as the Classify API has them: ids are strings, called classes."""

    def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
        answers = search.compute(tensors)
        ids = answers["ids"]
        return {"classes": ids if ids.dtype == tf.string else tf.strings.as_string(ids), "scores": answers["scores"]}

    def gap(asked: Features, answers: reference.Answers) -> float:
        return search.gap(asked, {"ids": answers["classes"].astype(ids_dtype), "scores": answers["scores"]})

    return replace(search, compute=compute, gap=gap)


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
        queries = tf.reshape(queries, (shape[0], 1, queries.shape[-1]))
        # The tower embeds the candidates of all lists as one batch.
        flat = {name: tf.reshape(features[name], (-1, *candidate_specs[name].shape[1:])) for name in lists}
        embeddings = tf.reshape(_embed(candidate, flat), (shape[0], shape[1], queries.shape[-1]))
        return {"scores": _pair_scores(measure, queries, embeddings)}

    gap = reference.list_gap(query, candidate, query_specs, candidate_specs, measure)
    return Signature("score", {**query_specs, **lists}, compute, gap, listed=frozenset(lists), lists=frozenset(lists))


def _pair_scores(measure: Measure, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    if measure.similarity == "euclidean":
        scores = -tf.reduce_sum((queries - candidates) ** 2, axis=-1)
    elif measure.similarity == "cosine":
        scores = tf.reduce_sum(l2_normalize(queries) * l2_normalize(candidates), axis=-1)
    else:
        scores = tf.reduce_sum(queries * candidates, axis=-1)
    return scores / measure.temperature
