"""The docstring of every public name has all its parts: what a reader must know before a call."""

import doctest
import enum
import inspect
from typing import Any

import pytest

from jaxvelo.kernels import KernelExpression
from tests.docstrings.public_names import PublicName, public_names
from tests.docstrings.raised_errors import errors_of
from tests.docstrings.sections import entries_of, sections_of

pytestmark = pytest.mark.any_precision

# Rooms whose functions compute nothing: they read, draw, show and log.
WITHOUT_FORMULAS = ("configuration", "kernels", "logging", "pl", "reading")
COMPUTE_NOTHING = ("pp.merge", "kernels.PrecomputedKernel")
COMPUTING_METHODS = ("add_projection", "cbc", "random_walks", "tsi")
SOURCES = (":math:", ".. math::", "References\n----------")


def missing_parts(public: PublicName) -> list[str]:
    """What the docstring of a public name lacks, in the order of its sections."""
    sections = sections_of(public.docstring)
    missing = [
        *(["summary"] if not sections[""].strip() else []),
        *missing_parameters(public, sections),
        *(["Returns"] if must_say_what_returns(public) and not sections.keys() & {"Returns", "Yields"} else []),
        *missing_errors(public, sections),
        *(["formula or source"] if needs_source(public) and not has_source(public.docstring) else []),
    ]
    shows = any(example.want for example in doctest.DocTestParser().get_examples(sections.get("Examples", "")))
    if not shows and ("Examples" in sections or needs_example(public)):
        missing.append("Examples")
    return missing


def missing_parameters(public: PublicName, sections: dict[str, str]) -> list[str]:
    """Arguments that are not explained, unless the base class does; or one entry for those that pictures share."""
    if public.is_property or public.stands_in:
        return []
    explained = entries_of(sections.get("Parameters", "")) | entries_of(sections.get("Attributes", ""))
    own = parameters_of(public.function)
    given = parameters_of(public.value)
    shared = [name for name in given if name not in own]
    # An argument of the function that is no argument of the call is what the shared ones are put into.
    if shared and explained & {name for name in own if name not in given}:
        shared = []
    return [f"`{name}`" for name in given if name not in explained and (name in own or name in shared)]


def parameters_of(value: Any) -> list[str]:
    """Names of the arguments of a function, a method or what makes an object."""
    if isinstance(value, enum.EnumType):
        return []  # its members are there already
    return [name for name in inspect.signature(value).parameters if name not in ("self", "cls")]


def must_say_what_returns(public: PublicName) -> bool:
    """Functions that return something; of a method without arguments, the summary says what it is."""
    if inspect.isclass(public.value) or public.is_property or public.stands_in:
        return False
    if public.owner is not None and not parameters_of(public.function):
        return False
    return inspect.signature(public.function).return_annotation not in (None, "None")


def missing_errors(public: PublicName, sections: dict[str, str]) -> list[str]:
    """Errors that its own lines raise and the section does not name, or that section if only its checks raise any."""
    raised = sections.get("Raises", "")
    own = errors_of(public.function, public.owner, with_checks=False)
    missing = [name for name in own if name not in raised]
    if not missing and not raised and public.is_face and not public.is_property and not public.stands_in:
        return ["Raises"] if errors_of(public.function, public.owner, with_checks=True) else []
    return missing


def needs_source(public: PublicName) -> bool:
    """Functions of the rooms that compute, kernels that can be made, and methods that compute by their names."""
    room = public.function.__module__.split(".")[1]
    if public.stands_in or public.is_property or public.name in COMPUTE_NOTHING:
        return False
    if public.owner is not None:
        method = public.name.rpartition(".")[2]
        return room in ("kernels", "estimators") and method.startswith(("compute_", "predict_", *COMPUTING_METHODS))
    if inspect.isclass(public.function):
        return issubclass(public.function, KernelExpression) and not inspect.isabstract(public.function)
    return room not in WITHOUT_FORMULAS


def has_source(docstring: str) -> bool:
    """Whether there is a formula, a paper, or a link to the public name that has them."""
    return any(source in docstring for source in SOURCES) or any(
        f"`~{name}`" in docstring or f"`{name}`" in docstring for name in NAMES_WITH_SOURCE
    )


NAMES_WITH_SOURCE = {
    f"jaxvelo.{public.name}" for public in public_names() if any(source in public.docstring for source in SOURCES)
}


def needs_example(public: PublicName) -> bool:
    """All names of modules, and the methods by which users of AnnData work."""
    return public.owner is None or (public.is_face and not public.is_property and not public.stands_in)


def test_nothing_is_missing():
    found = {public.name: missing_parts(public) for public in public_names()}
    assert not {name: parts for name, parts in found.items() if parts}


def documented(function) -> list[str]:
    """What the docstring of a function lacks that is of the face and computes."""
    function.__module__ = "jaxvelo.tl.own"
    return missing_parts(PublicName("tl.own", function))


def test_the_check_finds_each_part():
    def bare(a, *, b=0):
        if a:
            raise ValueError("no")
        return b

    assert documented(bare) == ["summary", "`a`", "`b`", "Returns", "ValueError", "formula or source", "Examples"]

    def whole(a, *, b=0):
        """Return :math:`b`.

        Parameters
        ----------
        a, b
            Two numbers.

        Returns
        -------
        The second one.

        Raises
        ------
        ValueError
            If the first is not 0.

        Examples
        --------
        >>> whole(0, b=1)
        1
        """
        if a:
            raise ValueError("no")
        return b

    assert documented(whole) == []
    whole.__doc__ = (
        inspect.cleandoc(whole.__doc__).removesuffix("\n1").replace("ValueError", "KeyError").replace("a, b", "a")
    )
    assert documented(whole) == ["`b`", "ValueError", "Examples"]


def test_errors_of_checks_are_found():
    """Those of functions and methods that are called, not what the pure part raises."""
    assert "KeyError" in errors_of(public("pl.scatter"), None, with_checks=True)
    assert not errors_of(public("pl.scatter"), None, with_checks=False)


def public(name: str):
    """The function of a public name."""
    return next(public.function for public in public_names() if public.name == name)
