"""The two-tower retrieval model: a query tower, a candidate tower and the similarity of their embeddings."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrankloss import errors
from tfrankloss.functional.similarity import SIMILARITIES
from tfrankloss.layers import L2Normalize, Similarity
from tfrankloss.models import micro_batches, probabilities, towers
from tfrankloss.models.past_rows import PastRows

MODES = ("in_batch", "listwise", "pairwise", "pointwise")


@keras.saving.register_keras_serializable(package="tfrankloss")
class TwoTower(keras.Model):
    """A functional Keras model of two towers; `two_tower` builds one and says what goes in and out.

    Attributes:
        query_tower: Keras model from query inputs to (B, D), as given: its embeddings are not normalised.
        candidate_tower: Keras model from candidate inputs to (B, D), likewise.
        similarity: "dot", "cosine" or "euclidean". With "cosine" the (B, 2, D) embeddings of mode "in_batch" are of
            length 1 already, so the loss takes their dot product; with "euclidean" they are raw and the loss must be
            `InBatchSoftmaxLoss(similarity="euclidean")`. `compile` refuses a loss that does not match.
        mode: "in_batch", "listwise", "pairwise" or "pointwise".
        temperature: What the scores of the score modes are divided by.
        num_negatives: Explicit negatives per row in mode "in_batch", or None.
        list_size: Candidates per list in modes "listwise" and "pairwise", or None where it varies.
        micro_batch_size: Rows whose activations a training step holds at a time, or None for all.
        queue_size: Rows of past batches whose candidates are further negatives, or None.
        candidate_probability: The layer that tells the loss the probabilities of candidates, or None.
    """

    def __init__(
        self,
        query_tower: keras.Model,
        candidate_tower: keras.Model,
        *,
        similarity: str = "dot",
        mode: str = "in_batch",
        temperature: float = 1.0,
        num_negatives: int | None = None,
        list_size: int | None = None,
        micro_batch_size: int | None = None,
        queue_size: int | None = None,
        candidate_probability: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        towers.check_towers(query_tower, candidate_tower)
        _check_settings(similarity, mode, temperature, num_negatives, list_size, micro_batch_size)
        errors.check_positive_integer("queue_size", queue_size, optional=True)
        for name, given in (("queue_size", queue_size), ("candidate_probability", candidate_probability)):
            if given is not None and mode != "in_batch":
                raise ValueError(f"`{name}` must be None unless mode is 'in_batch'. Received: mode={mode!r}")
        if candidate_probability is not None:
            probabilities.check_layer(candidate_probability)
        axes: tuple[int | None, ...] = ()
        if mode in ("listwise", "pairwise"):
            axes = (list_size,)
        elif num_negatives is not None:
            axes = (1 + num_negatives,)
        queries, candidates = towers.list_inputs(query_tower), towers.list_inputs(candidate_tower, axes)
        query = towers.apply_tower(query_tower, queries, lists=False)
        candidate = towers.apply_tower(candidate_tower, candidates, lists=bool(axes))
        if mode == "in_batch":
            outputs = _embeddings(query, candidate, similarity)
        else:
            outputs = Similarity(similarity, temperature, name="scores")(query, candidate)
        super().__init__(inputs={**queries, **candidates}, outputs=outputs, **kwargs)
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self.similarity = similarity
        self.mode = mode
        self.temperature = temperature
        self.num_negatives = num_negatives
        self.list_size = list_size
        self.micro_batch_size = micro_batch_size
        self.queue_size = queue_size
        self.candidate_probability = candidate_probability
        if micro_batch_size is not None:
            micro_batches.check_layers(self)
        if candidate_probability is not None and not candidate_probability.built:
            candidate_probability.build(self.output_shape[:1])
        if queue_size is not None:
            self.past_rows = PastRows(queue_size)
            self.past_rows.build((None, 2, self.output_shape[-1] + (candidate_probability is not None)))

    def train_step(self, *args: Any) -> Any:
        """As in `keras.Model.train_step`, by micro-batches where ``micro_batch_size`` says so."""
        if self.micro_batch_size is None:
            return super().train_step(*args)
        return micro_batches.train_step(self, self.micro_batch_size, *args)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """As in `keras.Model.compute_loss`, with probabilities of candidates where there is a layer for them.

        In training rows of past batches take part where ``queue_size`` says so.
        """
        if self.candidate_probability is not None:
            y_pred = probabilities.with_log_probabilities(self.candidate_probability, y, y_pred, training)
        given = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight, "training": training}
        if self.queue_size is None or not training:
            return super().compute_loss(**given)
        (loss,) = keras.tree.flatten(self.loss)
        with loss.beside(self.past_rows):
            return super().compute_loss(**given)

    def score(self, query_inputs: Any, candidate_inputs: Any) -> Any:
        """Scores of candidates for their query, in any mode.

        Args:
            query_inputs: Inputs of the query tower by name, B rows each.
            candidate_inputs: Inputs of the candidate tower by name: B rows each, or lists (B, L, ...).

        Returns:
            Scores (B,), or (B, L) for lists, higher is closer.
        """
        queries = towers.named("query_inputs", self.query_tower, query_inputs)
        candidates = towers.named("candidate_inputs", self.candidate_tower, candidate_inputs)
        first = self.candidate_tower.inputs[0]
        lists = np.ndim(candidates[first.name]) > len(first.shape)
        return Similarity(self.similarity, self.temperature)(
            towers.apply_tower(self.query_tower, queries, lists=False),
            towers.apply_tower(self.candidate_tower, candidates, lists=lists),
        )

    def embed_queries(self, query_inputs: Any, batch_size: int = 1024) -> np.ndarray:
        """Embeddings (N, D) of query inputs as the similarity sees them: of length 1 with "cosine"."""
        return self._embed("query_inputs", self.query_tower, query_inputs, batch_size)

    def embed_candidates(self, catalog: Any, batch_size: int = 1024) -> np.ndarray:
        """Embeddings (N, D) of a catalog of candidate inputs as the similarity sees them: of length 1 with "cosine"."""
        return self._embed("catalog", self.candidate_tower, catalog, batch_size)

    def query_encoder(self) -> keras.Model:
        """A model from query inputs by name to embeddings (B, D) as the similarity sees them; to serve and to index."""
        return self._encoder(self.query_tower)

    def candidate_encoder(self) -> keras.Model:
        """A model from candidate inputs by name to embeddings (B, D) as the similarity sees them."""
        return self._encoder(self.candidate_tower)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any) -> None:
        """As in `keras.Model.compile`, with the loss checked against the mode and the similarity.

        Raises:
            ValueError: If the loss is one of embeddings and the model gives scores, if their similarities differ, or if
                it takes the scores for probabilities.
        """
        for part in keras.tree.flatten(loss):
            _check_loss(part, self.mode, self.similarity)
            if self.queue_size is not None:
                _check_takes_past_rows(part)
            if self.candidate_probability is not None:
                probabilities.check_loss(part)
        if self.micro_batch_size is not None and keras.backend.backend() == "tensorflow":
            # XLA has no loops over parts of a batch of which the last is shorter.
            kwargs = {"jit_compile": False, **kwargs}
        super().compile(optimizer, loss, *args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as saved; Keras leaves this to any model with a `compile` of its own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """The settings of the constructor, both towers, and which layers they share."""
        return {
            "query_tower": keras.saving.serialize_keras_object(self.query_tower),
            "candidate_tower": keras.saving.serialize_keras_object(self.candidate_tower),
            "shared_layers": towers.shared_layers(self.query_tower, self.candidate_tower),
            "similarity": self.similarity,
            "mode": self.mode,
            "temperature": self.temperature,
            "num_negatives": self.num_negatives,
            "list_size": self.list_size,
            "micro_batch_size": self.micro_batch_size,
            "queue_size": self.queue_size,
            "candidate_probability": keras.saving.serialize_keras_object(self.candidate_probability),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> "TwoTower":
        """The model of ``config``."""
        config = dict(config)
        query_tower, candidate_tower = (
            keras.saving.deserialize_keras_object(config.pop(name), custom_objects=custom_objects)
            for name in ("query_tower", "candidate_tower")
        )
        candidate_tower = towers.share_layers(query_tower, candidate_tower, config.pop("shared_layers"))
        layer = config.pop("candidate_probability", None)
        layer = keras.saving.deserialize_keras_object(layer, custom_objects=custom_objects)
        return cls(query_tower, candidate_tower, candidate_probability=layer, **config)

    def _embed(self, name: str, tower: keras.Model, inputs: Any, batch_size: int) -> np.ndarray:
        errors.check_positive_integer("batch_size", batch_size)
        arrays = {key: _batchable(value) for key, value in towers.named(name, tower, inputs).items()}
        towers.check_rows(name, tower, arrays)
        # Of arrays of Python's strings Keras takes flat ones alone, of TensorFlow's any.
        tensors = {
            key: ops.convert_to_tensor(array, dtype="string") if array.dtype == object and array.ndim > 1 else array
            for key, array in arrays.items()
        }
        embeddings = tower.predict(towers.arranged(tower, tensors), batch_size=batch_size, verbose=0)
        faulty = np.flatnonzero(~np.isfinite(embeddings.astype("float32")).all(axis=1))
        if len(faulty):
            raise ValueError(
                f"`{name}` must give finite embeddings. Received: NaN or infinity in {len(faulty)} rows, "
                f"first {faulty[0]}"
            )
        if self.similarity == "cosine":
            embeddings = ops.convert_to_numpy(L2Normalize()(embeddings))
        return embeddings

    def _encoder(self, tower: keras.Model) -> keras.Model:
        inputs = towers.list_inputs(tower)
        embeddings = towers.apply_tower(tower, inputs, lists=False)
        if self.similarity == "cosine":
            embeddings = L2Normalize(name="embedding")(embeddings)
        return keras.Model(inputs, embeddings, name=f"{tower.name}_encoder")


def two_tower(
    query_tower: keras.Model,
    candidate_tower: keras.Model,
    *,
    similarity: str = "dot",
    mode: str = "in_batch",
    temperature: float = 1.0,
    num_negatives: int | None = None,
    list_size: int | None = None,
    micro_batch_size: int | None = None,
    queue_size: int | None = None,
    candidate_probability: keras.layers.Layer | None = None,
    name: str | None = None,
) -> TwoTower:
    """A Keras model that trains a query tower and a candidate tower together.

    Use mode "in_batch" when the data are positive pairs only, with `InBatchSoftmaxLoss`; "listwise" or "pairwise" when
    each query brings a list of candidates, with the list-wise and pair-wise losses (labels < 0 mark padding, whose
    scores are finite and without effect); "pointwise" for clicks, with
    `keras.losses.BinaryCrossentropy(from_logits=True)`, because the scores are logits. Cosines need a temperature of
    about 0.05 to 0.2: here in the score modes, in the loss in mode "in_batch".

    The model takes one dict: the inputs of the query tower by name, (B, ...), and those of the candidate tower by name.

    | mode                                    | candidate inputs              | output                    |
    |-----------------------------------------|-------------------------------|---------------------------|
    | "in_batch"                              | (B, ...)                      | embeddings (B, 2, D)      |
    | "in_batch" with K = ``num_negatives``   | (B, 1 + K, ...), own first    | embeddings (B, 2 + K, D)  |
    | "listwise", "pairwise"                  | (B, L, ...)                   | scores (B, L)             |
    | "pointwise"                             | (B, ...)                      | scores (B,)               |

    Embeddings stand as query, own candidate, negatives. With "cosine" they are of length 1 already, so the loss takes
    their dot product (`InBatchSoftmaxLoss(similarity="dot")`, or "cosine", which is the same); with "euclidean" they
    are raw, and the loss must have ``similarity="euclidean"``. `compile` refuses anything else.

    Args:
        query_tower: A functional or Sequential model with named inputs and one output (B, D). It may share layers with
            the candidate tower, such as a table of item embeddings.
        candidate_tower: Likewise, with the same D and other input names.
        similarity: "dot", "cosine" or "euclidean" (the negative squared distance), as in `layers.Similarity`.
        mode: "in_batch", "listwise", "pairwise" or "pointwise".
        temperature: What scores are divided by, above 0. In mode "in_batch" it belongs to the loss and must stay 1.
        num_negatives: Explicit negatives per row, in mode "in_batch" only.
        list_size: Candidates per list, in modes "listwise" and "pairwise" only; None where it varies.
        micro_batch_size: Rows whose activations a training step holds at a time, in mode "in_batch" only; None for all.
            The towers then take a batch of thousands in the memory of hundreds, for a second pass through them, and
            with the same result, but for batch normalisation, which sees micro-batches. Inputs, embeddings and the
            loss are still those of the batch (measured in `docs/speed.md`).
        queue_size: Rows of past batches that a training step looks at, in mode "in_batch" only; None for none. Their
            candidates, as they were embedded then, are further negatives, and with a symmetric loss their queries are
            too: thousands of negatives for the cost of their product. They fit the towers of now the better, the
            smaller the learning rate is. Give the loss the ids of candidates, or their own past will be negatives.
        candidate_probability: A layer from integer ids to the logarithms of the probabilities by which candidates come
            to be in a batch, as `sampling.StreamingProbability` learns them, in mode "in_batch" only; None for none.
            It is given the ids in ``y``, and tells a loss ``InBatchSoftmaxLoss(targets="candidate_ids",
            candidate_probability="embeddings")``. Embeddings that are predicted and served know nothing of it.
        name: Name of the model.

    Returns:
        A `TwoTower`, which saves and loads as any Keras model (`import tfrankloss` before `keras.models.load_model`).

    Raises:
        TypeError: If a tower is not a Keras model, or ``candidate_probability`` is not a layer.
        ValueError: If a tower has unnamed, sparse or ragged inputs, several outputs or no fixed embedding size, if the
            embedding sizes differ, names clash, or a setting does not belong to the mode.

    Example:
        >>> import numpy as np
        >>> user, item = keras.Input((2,), name="user_features"), keras.Input((2,), name="item_features")
        >>> model = two_tower(keras.Model(user, 2 * user), keras.Model(item, item + 0), mode="listwise")
        >>> lists = {"user_features": np.array([[1.0, 3.0]]), "item_features": np.array([[[1.0, 0.0], [0.0, 1.0]]])}
        >>> model.predict(lists, verbose=0).tolist()
        [[2.0, 6.0]]

    Source: documents, recall modes.
    """
    return TwoTower(
        query_tower,
        candidate_tower,
        similarity=similarity,
        mode=mode,
        temperature=temperature,
        num_negatives=num_negatives,
        list_size=list_size,
        micro_batch_size=micro_batch_size,
        queue_size=queue_size,
        candidate_probability=candidate_probability,
        name=name,
    )


def _check_settings(
    similarity: str,
    mode: str,
    temperature: float,
    num_negatives: int | None,
    list_size: int | None,
    micro_batch_size: int | None,
) -> None:
    errors.check_choice("similarity", similarity, SIMILARITIES)
    errors.check_choice("mode", mode, MODES)
    errors.check_positive("temperature", temperature)
    errors.check_positive_integer("num_negatives", num_negatives, optional=True)
    errors.check_positive_integer("list_size", list_size, optional=True)
    if mode == "in_batch" and temperature != 1:
        raise ValueError(
            "`temperature` must be 1 in mode 'in_batch', where the loss has one: InBatchSoftmaxLoss(temperature=0.1). "
            f"{errors.received('temperature', temperature)}"
        )
    errors.check_positive_integer("micro_batch_size", micro_batch_size, optional=True)
    if micro_batch_size is not None and mode != "in_batch":
        raise ValueError(f"`micro_batch_size` must be None unless mode is 'in_batch'. Received: mode={mode!r}")
    if num_negatives is not None and mode != "in_batch":
        raise ValueError(f"`num_negatives` must be None unless mode is 'in_batch'. Received: mode={mode!r}")
    if list_size is not None and mode not in ("listwise", "pairwise"):
        raise ValueError(f"`list_size` must be None unless mode is 'listwise' or 'pairwise'. Received: mode={mode!r}")


def _check_loss(loss: Any, mode: str, similarity: str) -> None:
    """Raise if the loss compares embeddings otherwise than the model, or is given scores to compare."""
    if mode == "pointwise" and _wants_probabilities(loss):
        raise ValueError(
            "`loss` must take logits in mode 'pointwise', as keras.losses.BinaryCrossentropy(from_logits=True) does. "
            f"{errors.received('loss', loss)}"
        )
    of_loss = getattr(loss, "similarity", None)
    if of_loss is None:
        return
    if mode != "in_batch":
        raise ValueError(f"`loss` must take scores in mode {mode!r}, not embeddings. {errors.received('loss', loss)}")
    allowed = {"dot": ("dot",), "cosine": ("dot", "cosine"), "euclidean": ("euclidean",)}[similarity]
    if of_loss not in allowed:
        raise ValueError(
            f"`loss` must have similarity {' or '.join(map(repr, allowed))} for a model of similarity {similarity!r}. "
            f"Received: loss.similarity={of_loss!r}"
        )


def _check_takes_past_rows(loss: Any) -> None:
    """Raise if a loss knows nothing of rows of past batches, or a setting of it does not."""
    if not hasattr(loss, "check_past_rows"):
        raise ValueError(f"`loss` must be an InBatchSoftmaxLoss with `queue_size`. {errors.received('loss', loss)}")
    loss.check_past_rows()


def _wants_probabilities(loss: Any) -> bool:
    """Whether it is one of Keras' binary cross entropies, which take probabilities unless told otherwise."""
    try:
        loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    except ValueError:  # Left to Keras, which says what names there are.
        return False
    kinds = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
    functions = (keras.losses.binary_crossentropy, keras.losses.binary_focal_crossentropy)
    return loss in functions or (isinstance(loss, kinds) and not loss.from_logits)


def _embeddings(query: Any, candidate: Any, similarity: str) -> Any:
    """Embeddings (B, 2 + K, D): query, own candidate, negatives."""
    if len(candidate.shape) == 2:
        candidate = ops.expand_dims(candidate, axis=1)
    embeddings = ops.concatenate([ops.expand_dims(query, axis=1), candidate], axis=1)
    return L2Normalize(name="embeddings")(embeddings) if similarity == "cosine" else embeddings


def _batchable(values: Any) -> np.ndarray:
    """An array that Keras can cut into batches: of strings it takes Python's, neither bytes nor NumPy's fixed width."""
    array = np.asarray(values)
    if array.size and isinstance(array.flat[0], bytes):
        array = np.char.decode(array.astype("S"), "utf-8")
    return array.astype(object) if array.dtype.kind == "U" else array
