"""A signature of an export: what it takes, computes in the graph and must agree with; and what decides on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import tensorflow as tf

from tfrankloss import errors
from tfrankloss.serving import reference
from tfrankloss.serving.features import Features, Specs
from tfrankloss.serving.index import CandidateIndex

Outputs = dict[str, tf.Tensor]
DEFAULT = "serving_default"
PADDING = (None, "mask", "lengths")


def _unchanged(features: Features) -> Features:
    return features


@dataclass(frozen=True)
class Signature:
    """One function of a servable.

    Args:
        name: The name that clients ask for.
        inputs: Its arguments.
        compute: From a dict of tensors to a dict of tensors, traced into the graph.
        gap: How far answers are from the live model's, computed another way.
        features: The raw features behind the arguments, where those are others.
        listed: The features with a list axis that the probe's rows do not have.
        lists: The arguments that share an open list axis.
        extend: Adds to the features of a probe what else is asked, such as ids to leave out.
        encode: From all that is asked to the arguments, such as serialized messages.
    """

    name: str
    inputs: Specs
    compute: Callable[[dict[str, tf.Tensor]], Outputs]
    gap: reference.Gap
    features: Specs | None = None
    listed: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    extend: Callable[[Features], Features] = _unchanged
    encode: Callable[[Features], Features] = _unchanged

    def serve(self, tensors: dict[str, tf.Tensor]) -> Outputs:
        """What is traced: `compute`, after checks that a server leaves to the graph.

        It takes tensors of any shape, and broadcasting or a reshape would then answer with something.
        """
        checked = {name: tf.ensure_shape(value, self.inputs[name].shape) for name, value in tensors.items()}
        checks = [
            tf.debugging.Assert(
                tf.reduce_all(sizes == sizes[0]), [f"inputs must have the same number of {wording}:", sizes]
            )
            for wording, found in (
                ("rows", [tf.shape(value)[0] for value in checked.values()]),
                ("items", [tf.shape(checked[name])[1] for name in sorted(self.lists & set(checked))]),
            )
            if len(found) > 1
            for sizes in [tf.stack(found)]
        ]
        with tf.control_dependencies(checks):
            return self.compute({name: tf.identity(value) for name, value in checked.items()})

    def request(self, asked: Features) -> dict[str, Any]:
        """The arguments for all that is asked."""
        encoded = self.encode(asked)
        return {name: encoded[name] for name in self.inputs}


@dataclass(frozen=True)
class Alias:
    """A signature under other names, so that clients of another exporter need not change.

    Args:
        signature: The name of the signature here.
        inputs: Names of arguments here, by the names they are published under; others keep theirs.
        outputs: Names of outputs here, by the names they are published under; others keep theirs.

    Example:
        >>> from tfrankloss.serving import Alias
        >>> Alias("serving_default", {"input_1": "user_id"}, {"output_1": "scores", "output_2": "ids"}).signature
        'serving_default'
    """

    signature: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str, signature: Signature) -> Signature:
        """``signature`` published as ``name``."""
        arguments, answers = ({there: here for here, there in names.items()} for names in (self.inputs, self.outputs))
        unknown = sorted(set(arguments) - set(signature.inputs))
        if unknown:
            raise ValueError(
                f"`inputs` of an Alias must name arguments of {signature.name!r}: {sorted(signature.inputs)}. "
                f"Received: {unknown}"
            )
        inputs = {arguments.get(key, key): spec for key, spec in signature.inputs.items()}

        def compute(tensors: dict[str, tf.Tensor]) -> Outputs:
            made = signature.compute({self.inputs.get(key, key): value for key, value in tensors.items()})
            missing = sorted(set(answers) - set(made))
            if missing:
                raise ValueError(
                    f"`outputs` of an Alias must name outputs of {signature.name!r}: {sorted(made)}. "
                    f"Received: {missing}"
                )
            return {answers.get(key, key): value for key, value in made.items()}

        return replace(
            signature,
            name=name,
            inputs={key: tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in inputs.items()},
            compute=compute,
            gap=lambda asked, got: signature.gap(asked, {self.outputs.get(key, key): got[key] for key in got}),
            features=signature.inputs if signature.features is None else signature.features,
            lists=frozenset(arguments.get(key, key) for key in signature.lists),
            encode=lambda asked: {arguments.get(key, key): value for key, value in signature.encode(asked).items()},
        )


@dataclass(frozen=True)
class Settings:
    """The arguments of `tfrankloss.serving.export` that decide its signatures; see there."""

    candidates: CandidateIndex | None = None
    k: int | None = None
    exclude: bool | int = False
    list_size: int | None = None
    context: Sequence[str] | None = None
    padding: str | None = None
    example_spec: Any = "auto"
    signatures: Sequence[str] | Mapping[str, str | Alias] | None = None
    preprocessing: Mapping[str, keras.Model] | None = None

    def check(self) -> None:
        """Raise if one of them is of the wrong kind."""
        errors.check_positive_integer("list_size", self.list_size, optional=True)
        errors.check_choice("padding", self.padding, PADDING)
        if not isinstance(self.exclude, bool):
            errors.check_positive_integer("exclude", self.exclude)
        if self.example_spec is not None and self.example_spec != "auto":
            errors.check_kind("example_spec", self.example_spec, Mapping, "'auto', None or a dict")  # type: ignore[type-abstract]
        if self.signatures is not None and (isinstance(self.signatures, str) or not len(self.signatures)):
            raise TypeError(f"`signatures` must be names in a list or dict. Received: signatures={self.signatures!r}")

    def models_before(self, keys: set[str]) -> Mapping[str, keras.Model]:
        """The preprocessing, whose keys must be among ``keys``."""
        given = self.preprocessing or {}
        errors.check_kind("preprocessing", given, Mapping, "a dict of keras models")  # type: ignore[type-abstract]
        if not set(given) <= keys:
            raise ValueError(f"`preprocessing` must have keys among {sorted(keys)}. Received: {sorted(given)}")
        return given


@dataclass(frozen=True)
class Plan:
    """All that an export writes: its signatures, the models behind them, and the rows that a probe consists of."""

    signatures: tuple[Signature, ...]
    models: tuple[keras.Model, ...]
    features: Specs


def check_output(stage: Any) -> None:
    """Raise unless a stage has one output."""
    if not isinstance(stage.model.outputs, list) or len(stage.model.outputs) != 1:
        raise ValueError(f"`{stage.name}` must have one output. {errors.received('outputs', stage.model.outputs)}")
