"""Which signatures a model is exported with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from tfrankloss import errors
from tfrankloss.serving.rankers import ranker
from tfrankloss.serving.signature import DEFAULT, Alias, Plan, Settings
from tfrankloss.serving.two_towers import catalog, two_towers


def chosen(planned: Plan, signatures: Sequence[str] | Mapping[str, str | Alias] | None) -> Plan:
    """The plan with the signatures that were asked for, under the names that were asked for.

    A server has a default: it is the first of them, unless one is named so.
    """
    if signatures is None:
        return planned
    by_name = {signature.name: signature for signature in planned.signatures}
    wanted = signatures if isinstance(signatures, Mapping) else {name: name for name in signatures}
    found = []
    for name, value in wanted.items():
        errors.check_kind("signatures", value, (str, Alias), "a dict of names or Alias")
        alias = Alias(value) if isinstance(value, str) else value
        errors.check_choice("signatures", alias.signature, tuple(by_name))
        found.append(alias.of(name, by_name[alias.signature]))
    if DEFAULT not in wanted:
        # Keras and TF Serving alike ask for the first by this name.
        found.append(replace(found[0], name=DEFAULT))
    return replace(planned, signatures=tuple(found))


def plan(model: Any, settings: Settings | None = None) -> Plan:
    """The signatures that `tfrankloss.serving.export` writes for these arguments; see there."""
    settings = settings or Settings()
    settings.check()
    if hasattr(model, "query_tower") or hasattr(model, "candidate_tower"):
        return chosen(two_towers(model, settings), settings.signatures)
    errors.check_kind("model", model, keras.Model, "a two-tower model (query_tower, candidate_tower) or a keras.Model")
    if settings.candidates is not None:
        return chosen(catalog(model, settings), settings.signatures)
    return chosen(ranker(model, settings), settings.signatures)
