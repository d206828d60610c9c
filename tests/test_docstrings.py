"""Every public name has a docstring whose arguments are those of its signature and whose examples run."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import tfrankloss


def modules():
    """The names of all modules; the command line is no module to import."""
    found = [module.name for module in pkgutil.walk_packages(tfrankloss.__path__, "tfrankloss.")]
    return [tfrankloss.__name__, *(name for name in found if not name.endswith("__main__"))]


def public():
    """Every function and class that a module defines under a public name."""
    for name in modules():
        module = importlib.import_module(name)
        for attribute, thing in vars(module).items():
            defined = getattr(thing, "__module__", None) == name
            if defined and not attribute.startswith("_") and (inspect.isfunction(thing) or inspect.isclass(thing)):
                yield pytest.param(thing, id=f"{name}.{attribute}")


def exported():
    """What users import: the names of the packages' ``__all__``."""
    packages = [name for name in modules() if hasattr(importlib.import_module(name), "__all__")]
    things = {}
    for name in packages:
        module = importlib.import_module(name)
        for attribute in module.__all__:
            thing = getattr(module, attribute)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                things[f"{thing.__module__}.{thing.__name__}"] = thing
    return [pytest.param(thing, id=name) for name, thing in sorted(things.items())]


def documented_arguments(docstring):
    """The names in the section ``Args:``, or ``Attributes:`` of a data class, without stars."""
    text = inspect.cleandoc(docstring) + "\n"
    section = re.search(r"^(?:Args|Attributes):\n((?:(?: .*)?\n)*)", text, flags=re.MULTILINE)
    return re.findall(r"^    \**(\w+):", section[1], flags=re.MULTILINE) if section else []


@pytest.mark.parametrize("thing", public())
def test_docstring(thing):
    assert thing.__doc__, "has no docstring"
    first = thing.__doc__.strip().splitlines()[0]
    assert first.endswith((".", ":", "::")) or "\n" in thing.__doc__, first


@pytest.mark.parametrize("thing", exported())
def test_arguments_are_those_of_the_signature(thing):
    parameters = inspect.signature(thing).parameters.values()
    # What is only handed on to a base class need not be told again.
    catching_all = [parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD]
    documented = [name for name in documented_arguments(thing.__doc__) if name not in catching_all]
    assert documented == [parameter.name for parameter in parameters if parameter.name not in catching_all]


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
