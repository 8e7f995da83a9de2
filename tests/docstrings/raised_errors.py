"""Which errors a function raises for what users pass: in its own lines, and in those of the checks that it calls."""

import ast
import builtins
import functools
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any

from tests.docstrings.public_names import PURE

# Not about what users pass.
OF_THE_HOUSE = {"NotImplementedError", "AssertionError", "AttributeError", "StopIteration"}


@functools.cache
def syntax_of(function: types.FunctionType) -> ast.AST:
    """The definition of a function."""
    return ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]


def own_errors(function: types.FunctionType) -> set[str]:
    """Names of the errors in the ``raise`` statements of a function."""
    found = set()
    for node in ast.walk(syntax_of(function)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(error).rpartition(".")[2]
            if name not in OF_THE_HOUSE and isinstance(getattr(builtins, name, None), type):
                found.add(name)
    return found


def errors_of(value: Any, owner: type | None, with_checks: bool) -> dict[str, str]:
    """Errors of a function or class by name, each with the function that raises it first."""
    found: dict[str, str] = {}
    to_read = [(function, owner if owner is not None else value) for function in functions_of(value)]
    seen = set()
    while to_read:
        function, cls = to_read.pop(0)
        if function in seen:
            continue
        seen.add(function)
        for name in sorted(own_errors(function)):
            found.setdefault(name, f"{function.__module__.removeprefix('jaxvelo.')}.{function.__qualname__}")
        if with_checks:
            to_read += list(called_by(function, cls))
    return found


def functions_of(value: Any) -> list[types.FunctionType]:
    """A function itself, or what makes an object of a class."""
    if inspect.isfunction(value):
        return [value]
    made_by = (getattr(value, name, None) for name in ("__init__", "__post_init__", "__check_init__"))
    functions = [function for function in made_by if inspect.isfunction(function)]
    # What a dataclass writes for itself has no source, and checks nothing.
    return [function for function in functions if not function.__code__.co_filename.startswith("<")]


def is_of_the_face(value: Any) -> bool:
    """Whether a function or class is ours, and stands where checks stand."""
    rooms = (getattr(value, "__module__", None) or "").split(".")
    return rooms[0] == "jaxvelo" and len(rooms) > 1 and rooms[1] not in PURE


def called_by(function: types.FunctionType, cls: Any) -> Iterator[tuple[types.FunctionType, Any]]:
    """Functions of the face that a function calls by name, or as methods of its own object."""
    names = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    for node in ast.walk(syntax_of(function)):
        if not isinstance(node, ast.Call):
            continue
        target, owner = node.func, cls
        if isinstance(target, ast.Name):
            called = names.get(target.id)
            owner = called if inspect.isclass(called) else None
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            is_own = target.value.id in ("self", "cls")
            place = cls if is_own else names.get(target.value.id)
            called = getattr(place, target.attr, None) if is_own or isinstance(place, types.ModuleType) else None
            owner = cls if is_own else called
        else:
            continue
        called = inspect.unwrap(getattr(called, "__func__", called)) if callable(called) else None
        # A method that makes another object of its own class, as a copy, raises nothing that is not said of the class.
        if called is cls or not is_of_the_face(called):
            continue
        if inspect.isfunction(called) or inspect.isclass(called):
            for found in functions_of(called):
                yield found, owner
