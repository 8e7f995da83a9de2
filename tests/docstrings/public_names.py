"""What users may call: the names of the public modules, and the methods of their classes."""

import functools
import importlib
import inspect
import itertools
from typing import Any, NamedTuple

import jaxvelo

PURE = ("graph", "transitions", "dynamics", "markov", "trends", "fit")


class PublicName(NamedTuple):
    """A function or class, or a method or property of one, under the name by which users know it."""

    name: str
    value: Any  # a function as it is called, or a class
    owner: type | None = None  # class of a method
    is_property: bool = False
    stands_in: bool = False  # for a method of a base class, which explains the arguments

    @property
    def function(self) -> Any:
        """The function that is explained: what compiles or checks a function, or shares out its arguments, wraps it."""
        return inspect.unwrap(self.value)

    @property
    def is_face(self) -> bool:
        """Whether it belongs to the part that knows AnnData, which checks what users pass."""
        return self.function.__module__.split(".")[1] not in PURE

    @property
    def docstring(self) -> str:
        """Its docstring without indentation."""
        return inspect.cleandoc(self.function.__doc__ or "")


def values_of(module_name: str) -> dict[str, Any]:
    """Public functions and classes of a module by name; a module of one file without a list has those it defines."""
    module = importlib.import_module(f"jaxvelo.{module_name}")
    defined = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    names = getattr(module, "__all__", [name for name in defined if not name.startswith("_")])
    values = {name: getattr(module, name) for name in names}
    return {name: value for name, value in values.items() if inspect.isclass(value) or is_function(value)}


def is_function(value: Any) -> bool:
    """Whether a value is a function, or wraps one."""
    return callable(value) and inspect.isfunction(inspect.unwrap(value))


def methods_of(name: str, cls: type, classes: dict[type, str]) -> list[PublicName]:
    """Public methods and properties of a class that explain themselves: its own, and those of its private bases.

    One without a docstring stands in for the method of the base class that explains it.
    """
    found: dict[str, PublicName] = {}
    others = [base for base in cls.__mro__[1:] if base in classes]
    for base in cls.__mro__:
        if not base.__module__.startswith("jaxvelo") or any(issubclass(other, base) for other in others):
            continue
        for attribute, member in vars(base).items():
            member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            function = member.fget if isinstance(member, property) else member
            if attribute.startswith("_") or attribute in found or not is_function(function):
                continue
            stands_in = any(hasattr(above, attribute) for above in base.__mro__[1:])
            if inspect.unwrap(function).__doc__ or not stands_in:
                found[attribute] = PublicName(
                    f"{name}.{attribute}", function, cls, isinstance(member, property), stands_in
                )
    return list(found.values())


@functools.cache
def public_names() -> tuple[PublicName, ...]:
    """All public functions, classes and methods, each once under its first name; constants are data, and left out."""
    tops = [PublicName("read", jaxvelo.read), PublicName("settings", type(jaxvelo.settings))]
    for module in sorted(set(jaxvelo.__all__) - {"read", "settings"}):
        tops += [PublicName(f"{module}.{name}", value) for name, value in values_of(module).items()]
    by_value: dict[int, PublicName] = {}
    for top in tops:
        by_value.setdefault(id(top.value), top)
    classes = {top.value: top.name for top in by_value.values() if inspect.isclass(top.value)}
    methods = (methods_of(name, cls, classes) for cls, name in classes.items())
    # A method may be a function of the module too, as `jaxvelo.kernels.read`.
    own = [public for public in itertools.chain.from_iterable(methods) if id(public.value) not in by_value]
    return (*by_value.values(), *own)
