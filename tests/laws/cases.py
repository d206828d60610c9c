"""Which losses and metrics there are, in which settings the laws try them, and which laws a case does not have.

Classes are found by their export and their options by their signature and error messages: a new class needs no edit
here.
"""

import ast
import functools
import inspect
import re
from dataclasses import dataclass

import keras
import numpy as np

from laws import layouts
from tfrankloss import losses, metrics

# Arguments of every Keras loss or metric, which have tests of their own.
KERAS_ARGUMENTS = ("name", "dtype", "reduction")
# Arguments that make no case of their own.
NO_CASE = {
    "seed": "it only makes the random orders of another case repeatable",
    "candidate_probability": "columns of probabilities are in test_in_batch.py, tables among the cases below",
    "known_positives": "it takes columns of its own, which a case below has",
}
NDCG_WEIGHT = losses.NDCGLambdaWeight(k=3, gain="linear")
# Arguments that take objects: what they are tried with, by class.
OBJECTS = {
    "lambda_weight": {
        "ListMLELoss": [losses.ListMLELambdaWeight("log2")],
        "RankNetLoss": [
            losses.LabelDiffLambdaWeight(),
            losses.DCGLambdaWeight(k=3, smooth_fraction=0.5),
            losses.NDCGLambdaWeight(),
            losses.NDCGLambdaWeightV2(k=2),
            losses.MRRLambdaWeight(k=4),
            losses.PrecisionLambdaWeight(k=2, threshold=2.0),
            losses.YetiDCGLambdaWeight(normalized=True),
            losses.NDCGLoss1LambdaWeight(),
            losses.NDCGLoss2LambdaWeight(k=2, gain="linear"),
            losses.NDCGLoss2PlusPlusLambdaWeight(mu=3.0),
        ],
        "SoftmaxLoss": [
            losses.DCGLambdaWeight(k=3, smooth_fraction=0.5),
            losses.NDCGLambdaWeight(k=3),
            losses.NDCGLambdaWeightV2(),
            losses.MRRLambdaWeight(threshold=2.0),
            losses.YetiDCGLambdaWeight(),
            losses.NDCGLoss2LambdaWeight(k=2, gain="linear"),
        ],
        "CalibratedSoftmaxLoss": [NDCG_WEIGHT],
        "PolyOneSoftmaxLoss": [NDCG_WEIGHT],
        None: [losses.NDCGLambdaWeight(k=3, smooth_fraction=0.25)],
    },
    "candidate_probability": {None: ["embeddings"]},
    "known_positives": {None: [[[1, -1], [0, 2]]]},
    "loss": {None: [losses.RankNetLoss(temperature=2.0), losses.ListMLELoss(ties="breslow")]},
}
# What a class is built with where nothing else is said.
GIVEN = {
    "GumbelApproxNDCGLoss": {"seed": 5},
    "GumbelLoss": {"loss": losses.SoftmaxLoss(), "seed": 5},
    "YetiLogisticLoss": {"seed": 5},
}

# Settings that are tried together, beside the default; an option that none of them has is tried by itself.
TOGETHER = {
    "ApproxMRRLoss": [{"temperature": 0.7, "method": "sorted"}],
    "ApproxNDCGLoss": [{"gain": "linear", "discount": "reciprocal", "temperature": 0.7, "method": "sorted"}],
    "NeuralSortNDCGLoss": [{"gain": "linear", "discount": "reciprocal", "temperature": 0.7}],
    "ListMLELoss": [
        {"ties": "exact", "top_k": 2, "discount": "log2", "score_transform": "identity"},
        {"ties": "efron", "top_k": 2, "discount": "reciprocal"},
        {"ties": "breslow", "top_k": 2, "temperature": 2.0},
        {"ties": "random", "discount": "log2", "seed": 3},
        {"ties": "position", "top_k": 2, "score_transform": "identity"},
    ],
    "RankNetLoss": [
        {"method": "sorted", "pair_reduction": "mean", "temperature": 2.0},
        {"method": "sorted", "lambda_weight": losses.NDCGLambdaWeight(k=3, smooth_fraction=0.5)},
        {"pairs": "binary", "ties": "half", "pair_reduction": "mean"},
        {"ties": "half", "pair_reduction": "mean", "temperature": 2.0},
    ],
    "PairwiseHingeLoss": [{"margin": 0.75, "pairs": "binary", "pair_reduction": "mean", "temperature": 2.0}],
    "PairwiseSoftZeroOneLoss": [
        {"pairs": "binary", "pair_reduction": "mean", "temperature": 0.5, "method": "sorted"},
    ],
    "PairwiseMSELoss": [
        {"pairs": "binary", "pair_reduction": "mean", "temperature": 2.0},
        {"pairs": "binary", "pair_reduction": "mean", "method": "dense"},
    ],
    "SigmoidCrossEntropyLoss": [{"item_reduction": "mean", "temperature": 2.0}],
    "MeanSquaredLoss": [{"item_reduction": "mean", "temperature": 2.0}],
    "OrdinalLoss": [
        {"ordinal_size": 2, "use_fraction_label": True, "temperature": 2.0},
        {"ordinal_size": 3, "temperature": 0.5},
    ],
    "ClickEMLoss": [{"exam_loss_weight": 0.5, "rel_loss_weight": 2.0, "temperature": 2.0}],
    "MixtureEMLoss": [{"alpha": 0.25, "temperature": 2.0}],
    "PolyOneSoftmaxLoss": [{"epsilon": -0.5, "lambda_weight": NDCG_WEIGHT, "temperature": 2.0}],
    "CalibratedSoftmaxLoss": [
        {"virtual_label": 0.5, "temperature": 2.0},
        {"virtual_label": 0.5, "lambda_weight": NDCG_WEIGHT},
    ],
    "CircleLoss": [{"gamma": 10.0, "margin": 0.5, "temperature": 2.0}, {"gamma": 1000.0, "margin": 0.0}],
    "CoupledRankDistilLoss": [{"sample_size": 3, "top_k": 2, "temperature": 2.0}],
    "InBatchSoftmaxLoss": [
        {
            "targets": "candidate_ids",
            "temperature": 0.5,
            "candidate_probability": (0.5, 0.125, 0.25, 0.125),
            "known_positives": 2,
            "symmetric": True,
            "margin": 0.25,
            "label_smoothing": 0.125,
        },
        {"targets": "candidate_ids", "shared_negatives": True, "chunk_size": 3, "known_positives": 2, "margin": 0.5},
        {"targets": "candidate_ids", "duplicates": "positive", "similarity": "cosine", "temperature": 0.2},
        {"targets": "candidate_ids", "duplicates": "negative", "similarity": "euclidean"},
        {"targets": "candidate_ids", "duplicates": "negative", "similarity": "euclidean", "chunk_size": 3},
    ],
    "BPRLoss": [{"pair_reduction": "mean", "temperature": 2.0}],
    "NPairLoss": [
        {"similarity": "cosine", "temperature": 0.5, "embedding_penalty": 0.25},
        {"similarity": "euclidean", "embedding_penalty": 0.5},
    ],
    "TripletLoss": [{"margin": 0.75, "pair_reduction": "mean", "temperature": 2.0}],
    "NDCG": [{"k": 3, "gain": "linear", "discount": "reciprocal", "empty": "skip"}],
    "MRR": [{"k": 2, "threshold": 2.0, "empty": "one"}],
    "PrecisionAtK": [{"k": 3, "threshold": 2.0, "empty": "skip"}],
    "RecallAtK": [{"k": 3, "threshold": 2.0, "empty": "one"}],
    "MeanAveragePrecision": [{"k": 3, "threshold": 2.0, "empty": "skip"}],
    "AlphaDCG": [
        {"k": 3, "alpha": 0.25, "discount": "reciprocal", "empty": "skip"},
        {"alpha": 1.0, "empty": "one"},
    ],
    "BPref": [
        {"k": 3, "threshold": 2.0, "use_trec_version": False, "empty": "skip"},
        {"k": 2, "empty": "one"},
    ],
    "DCG": [{"k": 3, "gain": "linear", "discount": "reciprocal", "empty": "skip"}],
    "Hits": [{"k": 2, "threshold": 2.0, "empty": "one"}, {"k": 1, "empty": "skip"}],
    "PrecisionIA": [{"k": 3, "threshold": 2.0, "empty": "skip"}],
}

# (law, settings): reason. A case with these settings does not have this law.
EXCEPTIONS = {
    **{
        (f"one {what} teaches nothing", "class", name): "every item has a target of its own"
        for name in ("SigmoidCrossEntropyLoss", "MeanSquaredLoss", "OrdinalLoss", "ClickEMLoss")
        for what in ("grade", "item")
    },
    ("one item teaches nothing", "class", "MixtureEMLoss"): "every clicked item has a target of its own",
    ("graded labels", "class", "SigmoidCrossEntropyLoss"): "labels are probabilities there",
    ("graded labels", "class", "MixtureEMLoss"): "labels are clicks there",
    ("gradient is the slope of its values", "class", "ClickEMLoss"): "the posterior gets no gradient",
    ("gradient is the slope of its values", "class", "MixtureEMLoss"): "the posterior gets no gradient",
    ("finite at any score", "class", "MeanSquaredLoss"): "squares of 1e30 are not numbers of float32",
    ("one item teaches nothing", "class", "ApproxMRRLoss"): "minus a metric that is 1 there, as in TensorFlow Ranking",
    ("one item teaches nothing", "class", "ApproxNDCGLoss"): "minus a metric that is 1 there, as in TensorFlow Ranking",
    ("one item teaches nothing", "class", "NeuralSortNDCGLoss"): "minus a metric that is 1 there",
    ("one item teaches nothing", "class", "GumbelApproxNDCGLoss"): "as in the loss of noisy scores, ApproxNDCGLoss",
    ("smooth wherever scores are drawn", "class", "NeuralSortNDCGLoss"): "its slope jumps where scores tie",
    ("smooth wherever scores are drawn", "class", "NeuralSortCrossEntropyLoss"): "its slope jumps where scores tie",
    ("nothing is drawn", "class", "GumbelLoss"): "noise is drawn by place; test_gumbel.py has the laws with it given",
    ("nothing is drawn", "class", "GumbelApproxNDCGLoss"): "as GumbelLoss",
    ("nothing is drawn", "class", "YetiLogisticLoss"): "as GumbelLoss",
    ("one grade teaches nothing", "class", "PairwiseMSELoss"): "items of one grade should score alike there",
    ("finite at any score", "class", "PairwiseMSELoss"): "squares of 1e30 are not numbers of float32",
    ("smooth wherever scores are drawn", "class", "PairwiseHingeLoss"): "gaps may be drawn that equal the margin",
    ("smooth wherever scores are drawn", "class", "TripletLoss"): "gaps may be drawn that equal the margin",
    ("smooth wherever scores are drawn", "class", "CircleLoss"): "scores may be drawn at which it begins to clip",
    ("gradient is the slope of its values", "class", "CircleLoss"): "its factors alpha follow the scores unmoved",
    ("one grade teaches nothing", "virtual_label", 0.5): "scores are compared with 0",
    ("one item teaches nothing", "class", "CalibratedSoftmaxLoss"): "its score is compared with 0",
    ("labels alone decide", "class", "CoupledRankDistilLoss"): "orders are drawn; the laws give it labels so far apart "
    "that only one order can be",
    ("smooth wherever scores are drawn", "hardest_negatives", 2): "which negatives count changes where scores tie",
    ("one grade teaches nothing", "ties", "half"): "tied items are pairs there, with target 1/2",
    ("one grade teaches nothing", "ties", "random"): "ties are put in a random order, which then counts",
    ("one grade teaches nothing", "ties", "position"): "ties are put in the order of the input, which then counts",
    ("ties have no order", "ties", "random"): "as its name says; the laws give it distinct labels",
    ("ties have no order", "ties", "position"): "as its name says; the laws give it distinct labels",
}


@dataclass(frozen=True)
class Case:
    """One class in one setting.

    Attributes:
        cls: The class.
        items: Its settings.
        everywhere: Whether it is tried on every backend in every run, not only in the sweep and on TensorFlow.
    """

    cls: type
    items: tuple[tuple[str, object], ...]
    everywhere: bool = True

    def __str__(self):
        return "-".join([self.cls.__name__, *(f"{key}={value}" for key, value in self.items)])

    @property
    def name(self):
        return self.cls.__name__

    @property
    def settings(self):
        return dict(self.items)

    def has(self, law):
        return not any((law, *item) in EXCEPTIONS for item in (("class", self.name), *self.items))

    @property
    def layout(self):
        if issubclass(self.cls, losses.InBatchSoftmaxLoss):
            known = self.settings.get("known_positives", 0)
            return layouts.Rows(ids=self.settings.get("targets") == "candidate_ids", known=known)
        if issubclass(self.cls, losses.NPairLoss):
            return layouts.Rows(ids=True, negatives=0)
        if issubclass(self.cls, (metrics.AlphaDCG, metrics.PrecisionIA)):
            return layouts.Subtopics()
        positive = self.settings.get("score_transform") == "identity"
        columns = self.loss.score_columns if issubclass(self.cls, losses.RankingLoss) else None
        return layouts.Lists(
            positive_scores=positive,
            positive_first=issubclass(self.cls, (losses.BPRLoss, losses.SampledSoftmaxLoss, losses.TripletLoss)),
            graded_labels=self.has("graded labels"),
            columns=3 if isinstance(columns, str) else columns,
            distinct_labels=not (self.has("ties have no order") and self.has("labels alone decide")),
            label_step=1.0 if self.has("labels alone decide") else 30.0,
            largest_score=3.4e38 if self.has("finite at any score") else 1e15,
        )

    def make(self, **settings):
        """A new loss or metric."""
        return make(self.cls, **{**self.settings, **settings})

    @property
    def step(self):
        """A step of scores within which the slope of the loss hardly turns."""
        return 1e-7 if self.settings.get("gamma", 0.0) > 100 else 1e-5

    @functools.cached_property
    def loss(self):
        """The loss with one value per list, always the same object, so that it is compiled once."""
        return self.make(reduction=None)

    @functools.cached_property
    def metric(self):
        """The metric, always the same object, so that it is compiled once."""
        return self.make()


def make(cls, **settings):
    """A loss or metric of a class, with what it cannot be built without."""
    return cls(**{**GIVEN.get(cls.__name__, {}), **settings})


def options(cls):
    """The values, other than the default, of each argument of a class's own."""
    parameters = inspect.signature(cls).parameters
    return {name: _values(cls, name, parameters[name].default) for name in parameters if name not in KERAS_ARGUMENTS}


def _values(cls, name, default):
    if name in OBJECTS:
        return OBJECTS[name].get(cls.__name__, OBJECTS[name][None])
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, float):
        return [default / 2 + 0.25 if default != 0.5 else 0.75]
    message = _complaint(cls, name)
    if "integer" in message:
        return [2]
    listed = re.search(r"must be one of (.*?)\. Received", message)
    if listed is None:
        raise AssertionError(f"Give {cls.__name__}({name}=...) an error that says what it takes. Received: {message}")
    return [value for value in ast.literal_eval(f"[{listed[1]}]") if value != default]


def _complaint(cls, name):
    """What the class says about a value that no argument takes."""
    if name in NO_CASE:
        return "an integer"
    try:
        make(cls, **{name: "no such value"})
    except (TypeError, ValueError) as error:
        return str(error)
    raise AssertionError(f"{cls.__name__}({name}='no such value') raises nothing")


def _concrete(module):
    # A class with two names is one class.
    classes = dict.fromkeys(getattr(module, name) for name in module.__all__)
    bases = (keras.losses.Loss, keras.metrics.Metric)
    found = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, bases) and not inspect.isabstract(cls)]
    return [cls for cls in found if cls.__name__ in GIVEN or not _wraps(cls)]


def _wraps(cls):
    """Whether the class is made of others, which keep the laws themselves; it has tests of its own."""
    return any(parameter.default is parameter.empty for parameter in inspect.signature(cls).parameters.values())


def _cases(cls):
    together = TOGETHER.get(cls.__name__, [])
    tried = [item for setting in together for item in setting.items()]
    own = options(cls)
    # Of a number one value tells enough, whichever it is.
    names = {name for name, _ in tried}
    numbers = {name: values[0] for name, values in own.items() if type(values[0]) in (int, float)}
    untried = [
        {name: value}
        for name, values in own.items()
        if name not in NO_CASE and name not in numbers
        for value in values
        if (name, value) not in tried
    ]
    if not set(numbers) - set(NO_CASE) <= names:
        untried.append(numbers)
    settings = [{}, *together, *untried]
    # Compiling is what takes the time: in a quick run other backends see the default and one setting of many options.
    return [Case(cls, tuple(sorted(setting.items())), place < 2) for place, setting in enumerate(settings)]


LOSS_CLASSES = _concrete(losses)
METRIC_CLASSES = _concrete(metrics)
LOSSES = [case for cls in LOSS_CLASSES for case in _cases(cls)]
METRICS = [case for cls in METRIC_CLASSES for case in _cases(cls)]
DEFAULT_LOSSES = [Case(cls, ()) for cls in LOSS_CLASSES]
LIST_LOSSES = [case for case in LOSSES if isinstance(case.layout, layouts.Lists)]


def every_option(cls):
    """A setting in which no argument has its default; functions and names have tests of their own."""
    chosen = {name: values[0] for name, values in options(cls).items()}
    taken = inspect.signature(cls).parameters
    keras_own = {"name": "another_name", "dtype": "float64", "reduction": "sum"}
    return {**chosen, **{name: value for name, value in keras_own.items() if name in taken}}


def item_weights(generator, shape):
    """Weights that differ from item to item, all exact in float32."""
    return (generator.integers(1, 9, shape) / 4).astype("float32")


def list_weights(generator, count):
    """Weights that differ from list to list, all exact in float32."""
    return np.asarray(generator.permutation(count) / 2 + 0.5, "float32")
