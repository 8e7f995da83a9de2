"""Names of states that stand for several: ``"Alpha, Beta"`` is Alpha and Beta taken together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from jaxvelo.annotated.arguments import listed


def mixtures_of(wanted: Collection[str], known: Sequence[str], things: str) -> dict[str, list[int]]:
    """Find the states that names stand for.

    Parameters
    ----------
    wanted
        Names of states, or several with commas between them. A name that is known as it is, is that state.
    known
        Names of all states.
    things
        What they are, for messages, such as ``"lineages"``.

    Returns
    -------
    For each state or mixture, once and in the order asked for, its name (of a mixture, the names in alphabetical order)
    and the places of its states in ``known``.

    Raises
    ------
    KeyError
        If a name is not known.
    ValueError
        If a state is in several of them.
    """
    found: dict[str, list[int]] = {}
    unknown = [part for name in wanted for part in parts_of(name, known) if part not in known]
    if unknown:
        raise KeyError(
            f"Expected names of {things}, found {listed(unknown)}. There are {listed(known)}; write several "
            "together with commas between them."
        )
    for name in wanted:
        parts = parts_of(name, known)
        found[", ".join(parts)] = [known.index(part) for part in parts]
    places = [place for several in found.values() for place in several]
    twice = sorted({known[place] for place in places if places.count(place) > 1})
    if twice:
        raise ValueError(f"Expected each of the {things} once, found overlapping names: {listed(twice)} in several.")
    return found


def parts_of(name: str, known: Sequence[str]) -> list[str]:
    """Names of the states that a name stands for, in alphabetical order, known or not."""
    return [name] if name in known else sorted({part.strip() for part in name.strip(" ,").split(",")})


def plain_names(names: Any) -> list[str] | None:
    """One name or several as a list of text; ``None`` as it is."""
    return [names] if isinstance(names, str) else None if names is None else [str(name) for name in names]
