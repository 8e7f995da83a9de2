"""What of each public name is shown, and that all of them are."""

import inspect
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

import jaxvelo

logger = logging.getLogger(__name__)


def public_names() -> Iterator[tuple[str, Any]]:
    """Full names of all that the public modules list in their ``__all__``, and what they stand for."""
    for name in jaxvelo.__all__:
        value = getattr(jaxvelo, name)
        yield f"jaxvelo.{name}", value
        if isinstance(value, ModuleType):
            yield from ((f"jaxvelo.{name}.{member}", getattr(value, member)) for member in value.__all__)


PAGES = {value: name for name, value in public_names() if inspect.isclass(value)}
"""The name of each class that has a page."""


def require_all(app: Sphinx, env) -> None:
    """Warn of public names that no page describes."""
    described = env.domains.python_domain.objects
    for name, _ in public_names():
        if name not in described:
            logger.warning("no page describes the public name %s", name)


def members(cls: type) -> list[str]:
    """What the page of a class explains: its own, and what it has of private bases."""
    owners: dict[str, type] = {}
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if name[0] != "_" and inspect.getdoc(value):
                owners.setdefault(name, base)
    on_page = [name for name, owner in owners.items() if owner is cls or (owner not in PAGES and is_ours(owner))]
    return [name for name in on_page if callable(getattr(cls, name)) or is_property(cls, name)]


def is_ours(cls: type) -> bool:
    """Whether a class is one of this package."""
    return cls.__module__.startswith("jaxvelo.")


def is_property(cls: type, name: str) -> bool:
    """Whether instances compute it."""
    return isinstance(inspect.getattr_static(cls, name), property)


def name_inherited(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Name what a class has of bases that have pages, with links."""
    if what != "class":
        return
    seen = set(members(obj))
    for base in obj.__mro__[1:]:
        if base in PAGES:
            inherited = [member for member in members(base) if member not in seen]
            seen.update(inherited)
            if inherited:
                links = ", ".join(f":py:obj:`{member} <{PAGES[base]}.{member}>`" for member in inherited)
                lines += ["", f"From :py:class:`~{PAGES[base]}`: {links}.", ""]


def keep_first_line(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Let napoleon take no sentence with a colon for the type of a property."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")


def find_inherited(app: Sphinx, env, node, content):
    """Link what a class has of a base to the page of that base."""
    module, cls = sys.modules.get(node.get("py:module") or ""), node.get("py:class")
    for base in getattr(getattr(module, cls or "", None), "__mro__", ()):
        if base in PAGES:
            target = f"{PAGES[base]}.{node['reftarget'].rpartition('.')[2]}"
            if target in env.domains.python_domain.objects:
                link = (env, node["refdoc"], app.builder, node["reftype"], target, node, content)
                return env.domains.python_domain.resolve_xref(*link)
    return None


def explain_constant(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Show the string below a constant, from the private module that defines it, and not that of its type."""
    if what not in ("data", "attribute"):
        return
    public, _, constant = name.rpartition(".")
    for module in [module for module in sys.modules if module.startswith(f"{public}._")]:
        try:
            documented = ModuleAnalyzer.for_module(module).find_attr_docs()
        except PycodeError:
            continue
        if ("", constant) in documented:
            lines[:] = documented["", constant]
            return
    if what == "data":
        lines.clear()


def shorten_types(
    app: Sphinx, what: str, name: str, obj, options, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Name JAX's arrays as users do, not by the private module that makes them, and modules without their file."""
    short = [text and text.replace("jaxlib._jax.Array", "Array") for text in (signature, returns)]
    return short[0] and re.sub(r"<module '([\w.]+)' from '[^']*'>", r"\1", short[0]), short[1]


def skip_unexplained(app: Sphinx, what: str, name: str, obj, skip: bool, options) -> bool | None:
    """Leave out fields of named tuples, which are explained with their class."""
    return True if (inspect.getdoc(obj) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to what Sphinx tells; templates get the names of the classes that have pages."""
    app.connect("env-check-consistency", require_all)
    app.connect("missing-reference", find_inherited)
    app.connect("autodoc-process-docstring", keep_first_line, priority=100)
    app.connect("autodoc-process-docstring", explain_constant, priority=900)
    app.connect("autodoc-process-docstring", name_inherited, priority=900)
    app.connect("autodoc-process-signature", shorten_types)
    app.connect("autodoc-skip-member", skip_unexplained)
    names = {cls.__name__ for cls in PAGES} | {"Module", "int", "object", "tuple"}
    app.config.autosummary_context = {"classes_with_pages": ", ".join(sorted(names))}
    return {"parallel_read_safe": True, "parallel_write_safe": True}
