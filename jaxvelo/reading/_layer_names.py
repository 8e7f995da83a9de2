"""The names under which tools store spliced and unspliced counts."""

import re
from collections.abc import Iterable
from typing import Any

# Of kb-python's workflow `nac`: mature molecules are spliced, nascent ones are not.
_PAIRS = (("spliced", "unspliced"), ("mature", "nascent"))
# What is put around the name, as in `spliced_counts` or `raw.unspliced`.
_DECORATION = {"count", "counts", "layer", "mat", "matrix", "mrna", "raw", "reads", "rna", "umi", "umis"}


def find_counts(layers: Iterable[Any]) -> dict[str, str]:
    """Tell which layers hold the spliced and unspliced counts.

    Names count whatever their case, and with a word like ``counts`` or ``raw`` before or after them. A layer of exactly
    the name ``spliced`` or ``unspliced`` is taken as it is, and no other is taken for it or beside it.

    Parameters
    ----------
    layers
        Names of layers. Those that are no strings are no counts.

    Returns
    -------
    Names of layers by what they hold: ``"spliced"``, ``"unspliced"`` and, if there is one beside them, ``"ambiguous"``.
    Without the two first ones, if there are none, or if it is not clear which ones they are.
    """
    names = [name for name in layers if isinstance(name, str)]
    by_meaning: dict[str, list[str]] = {}
    for name in names:
        by_meaning.setdefault(_meaning(name), []).append(name)
    found = {name: name for name in _PAIRS[0] if name in names}
    if not found:
        pairs = [pair for pair in _PAIRS if pair[0] in by_meaning or pair[1] in by_meaning]
        if len(pairs) == 1 and all(len(by_meaning.get(name, ())) == 1 for name in pairs[0]):
            found = {meant: by_meaning[name][0] for meant, name in zip(_PAIRS[0], pairs[0], strict=True)}
    if len(found) == 2:
        ambiguous = ["ambiguous"] if "ambiguous" in names else by_meaning.get("ambiguous", [])
        if len(ambiguous) == 1:
            found["ambiguous"] = ambiguous[0]
    return found


def could_be_counts(layers: Iterable[Any]) -> list[str]:
    """Names of layers that sound like spliced or unspliced counts."""
    meanings = {name for pair in _PAIRS for name in pair}
    return [name for name in layers if isinstance(name, str) and _meaning(name) in meanings]


def _meaning(name: str) -> str:
    words = re.findall("[a-z]+", name.lower())
    return "".join(word for word in words if word not in _DECORATION)
