"""Colours as files hold them: names, hexadecimal text, rows of RGB or RGBA, by order or by name of the group."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.names import text_of


def stored_colors(adata: AnnData, key: str, names: Sequence[str]) -> tuple[list[str | None], str] | None:
    """Read the colours of the groups of ``adata.obs[key]``, as :func:`read_colors`; None if nothing is stored."""
    stored = adata.uns.get(f"{key}_colors")
    return None if stored is None else read_colors(stored, names)


def read_colors(stored: Any, names: Sequence[str]) -> tuple[list[str | None], str]:
    """Read one colour for each group.

    Parameters
    ----------
    stored
        In the order of the groups: a sequence or an array of names, of hexadecimal text (``bytes`` too), or of rows of
        three or four numbers, from 0 to 1 or integers from 0 to 255; a structured array of such rows. Or by name of the
        group: a mapping, a Series or DataFrame with names in its index, a structured array with a field for each group
        or with rows of name and colour.
    names
        Names of the groups.

    Returns
    -------
    list
        For each group its colour in hexadecimal form, with the opacity if it has one; :obj:`None` where there is none.
    str
        Why, in words, there are none for some; empty if all are there.
    """
    entries = _entries(stored, names)
    if len(entries) != len(names):
        return [None] * len(names), (
            f"{len(entries)} colours for {len(names)} groups, so that which belongs to which is unknown"
        )
    colors = read_each(entries)
    missing = [name for name, color in zip(names, colors, strict=True) if color is None]
    return colors, "" if not missing else f"no colour for {_shortened(missing)}"


def read_each(entries: Sequence[Any]) -> list[str | None]:
    """Give colours in hexadecimal form; :obj:`None` where there is none. All rows of numbers are of one scale."""
    from matplotlib.colors import is_color_like, to_hex

    texts = [_as_text(entry) for entry in entries]
    rows = [None if text is not None else _as_numbers(entry) for text, entry in zip(texts, entries, strict=True)]
    numbers = [row for row in rows if row is not None]
    by_255 = bool(numbers) and _is_by_255(np.concatenate([row[:3] for row in numbers]))
    opacity_by_255 = by_255 and any(len(row) == 4 and row[3] > 1 for row in numbers)
    colors: list[str | None] = []
    for entry, text, row in zip(entries, texts, rows, strict=True):
        pair = entry if _is_sequence(entry) and len(entry) == 2 else None  # a colour and its opacity
        color: Any = pair if text is None else text
        if row is not None:
            scale = np.array([*[255.0 if by_255 else 1.0] * 3, 255.0 if opacity_by_255 else 1.0])
            color = row / scale[: len(row)]
            color = tuple(np.clip(color, 0, 1)) if ((color >= 0) & (color <= 1 + 1e-6)).all() else None
        known = color is not None and text != "none" and is_color_like(color)
        colors.append(_without_needless_opacity(to_hex(color, keep_alpha=True)) if known else None)
    return colors


def _entries(stored: Any, names: Sequence[str]) -> list[Any]:
    """Give what is stored for each group, in their order."""
    if isinstance(stored, np.ndarray) and stored.dtype.names:
        rows = np.atleast_1d(stored)
        if len(rows) == 1 and set(names) <= set(stored.dtype.names):
            stored = {name: rows[0][name] for name in names}
        else:
            stored = rows.ravel().tolist()
    if isinstance(stored, pd.DataFrame):
        stored = pd.Series(list(stored.itertuples(index=False, name=None)), index=stored.index)
    if isinstance(stored, pd.Series):
        index = [text_of(key) for key in stored.index]
        in_order = isinstance(stored.index, pd.RangeIndex) and not set(names) <= set(index)
        stored = stored.tolist() if in_order else dict(zip(index, stored, strict=True))
    if isinstance(stored, Mapping):
        by_name = {text_of(key): color for key, color in stored.items()}
        return [by_name.get(name) for name in names]
    if isinstance(stored, str | bytes):
        return [stored]
    array = np.asarray(stored, dtype=object) if isinstance(stored, pd.Index | pd.Categorical) else stored
    if isinstance(array, np.ndarray):
        is_table = array.ndim == 2 and array.shape[1] in (3, 4)
        entries = list(array) if is_table else array.ravel().tolist()
    else:
        entries = list(array) if hasattr(array, "__iter__") else [array]
        entries = [entry[0] if _is_sequence(entry) and len(entry) == 1 else entry for entry in entries]
    pairs = [entry for entry in entries if _is_sequence(entry) and len(entry) == 2]
    if pairs and len(pairs) == len(entries) and set(names) <= {text_of(pair[0]) for pair in pairs}:
        by_name = {text_of(name): color for name, color in pairs}
        return [by_name.get(name) for name in names]
    return entries


def _is_sequence(entry: Any) -> bool:
    return isinstance(entry, list | tuple) or (isinstance(entry, np.ndarray) and entry.ndim > 0)


def _as_text(entry: Any) -> str | None:
    """Give text as such, whatever its type; :obj:`None` for all else."""
    return text_of(entry).strip() if isinstance(entry, str | bytes) else None


def _as_numbers(entry: Any) -> Float[np.ndarray, " channels"] | None:
    """Give three or four numbers; :obj:`None` if there are others or they are not finite."""
    try:
        row = np.asarray(entry, dtype=float)
    except (TypeError, ValueError):
        return None
    return row if row.shape in ((3,), (4,)) and np.isfinite(row).all() else None


def _is_by_255(channels: Float[np.ndarray, " _"]) -> bool:
    return bool(channels.max() > 1 + 1e-6 and channels.max() <= 255 and (channels == np.round(channels)).all())


def _without_needless_opacity(color: str) -> str:
    return color[:7] if color[7:] == "ff" else color


def _shortened(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(map(repr, names[:limit]))
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
