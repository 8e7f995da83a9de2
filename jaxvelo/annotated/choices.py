"""What a user chooses, or tools note, of cells, genes and groups: masks, names and values by one rule each."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.annotations import dense, is_missing, is_number, listed, require_key
from jaxvelo.configuration import logger

MISSING_AS_TEXT = ("nan", "NaN", "None", "<NA>", "")
"""What becomes of missing values where a column is converted to text."""


def read_mask(values: Any, where: str, remedy: str) -> np.ndarray:
    """Return truth values, in any form in which tools and files hold them: the one rule where a mask is asked for.

    These are booleans, pandas' nullable ones, numbers that are all 0 or 1, and, as columns with missing values come
    back from files, the texts "True" and "False" (in any case) or "0" and "1", also as categories.

    Parameters
    ----------
    values
        A column, an array or a list.
    where
        Name of the values, for messages.
    remedy
        What to do about others.

    Raises
    ------
    ValueError
        If there are other values, or missing ones: what these stand for is the user's to say.
    """
    truth = truth_of(values)
    if truth is None:
        column = pd.Series(values)
        others = [value for value in column if not is_missing(value) and _as_truth(value) is None]
        raise ValueError(
            f"Expected booleans, or 0 and 1, in `{where}`, found the type {column.dtype} with {listed(others, 3)}. "
            f"{remedy}"
        )
    n_missing = int(truth.isna().sum())
    if n_missing:
        raise ValueError(
            f"Expected booleans, or 0 and 1, in `{where}`, found {n_missing} missing values. Fill them, as by "
            f"`.fillna(False)`. {remedy}"
        )
    return truth.to_numpy(dtype=bool)


def truth_of(values: Any) -> pd.Series | None:
    """Nullable truth values; None if some are no truth values."""
    column = values if isinstance(values, pd.Series) else pd.Series(values)
    if pd.api.types.is_numeric_dtype(column.dtype):  # booleans included
        if column.dtype == object or column.dtype.kind == "c":
            return None
        numbers = column.to_numpy(dtype=float, na_value=np.nan)
        missing = np.isnan(numbers)
        if not (missing | (numbers == 0) | (numbers == 1)).all():
            return None
        return pd.Series(pd.arrays.BooleanArray(numbers == 1, missing), index=column.index)
    try:
        codes, kinds = pd.factorize(column)
    except TypeError:  # lists and other things that are no values
        return None
    truths = [_as_truth(kind) for kind in kinds]
    if any(truth is None for truth in truths):
        return None
    known = np.array([*truths, False], dtype=bool)[codes]  # -1, for a missing value, takes the last
    return pd.Series(pd.arrays.BooleanArray(known, codes < 0), index=column.index)


def _as_truth(value: Any) -> bool | None:
    text = text_of(value).lower()
    return True if text in ("true", "1") else False if text in ("false", "0") else None


def text_of(value: Any) -> str:
    """Write a name or a value as text, the same for all types that a file may give it back in: 3, 3.0, "3", b"3"."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def is_name(wanted: Any) -> bool:
    """Whether ``wanted`` can be a single name: text or a number."""
    return isinstance(wanted, str | bytes | int | float | np.generic)


def find_name(names: pd.Index, wanted: Any, where: str, argument: str) -> int | None:
    """Return the place of the only entry of that name, None if there is no such entry; see :func:`places_of`."""
    return one_name(names, wanted, where, argument) if places_by_name(names, [wanted])[0][1] else None


def one_name(names: pd.Index, name: Any, where: str, argument: str) -> int:
    """Return the place of the only entry of that name; see :func:`places_of`."""
    return int(places_of(names, [name], where, argument)[0])


def places_of(names: pd.Index, wanted: Any, where: str, argument: str) -> np.ndarray:
    """Return the place of each wanted name, in their order: by value, or by what it reads as text.

    Parameters
    ----------
    names
        Names of cells or genes, unique or not, text or not.
    wanted
        A list of names.
    where
        Name of ``names``, such as ``"adata.var_names"``, for messages.
    argument
        Name of the user's argument.

    Raises
    ------
    KeyError
        If a name is not there.
    ValueError
        If a name is there several times.
    """
    places = places_by_name(names, wanted)
    absent = [want for want, found in places if not len(found)]
    if absent:
        things = "genes" if "var" in where else "cells"
        raise KeyError(
            f"Expected names of {things} as `{argument}`, found {listed(absent, 5)} not in `{where}`, which are like "
            f"{listed(names[:3])}. Leave them out, or check the spelling."
        )
    twice = [want for want, found in places if len(found) > 1]
    if twice:
        remedy = f", as by `{where}_make_unique()`" if where in ("adata.obs_names", "adata.var_names") else ""
        raise ValueError(
            f"Expected each name in `{argument}` once in `{where}`, found {listed(twice, 5)} several times. Make the "
            f"names unique first{remedy}."
        )
    return np.array([found[0] for _, found in places], dtype=int)


def places_by_name(names: pd.Index, wanted: Any) -> list[tuple[Any, list[int]]]:
    """Return all places of each wanted name: of that value, otherwise what reads the same; none if it is missing."""
    asked = [want.item() if isinstance(want, np.generic) else want for want in wanted]
    by_value = _at(names, [want for want in asked if pd.api.types.is_hashable(want) and not is_missing(want)])
    rest = {i for i, want in enumerate(asked) if not is_missing(want) and not _get(by_value, want)}
    by_text: dict[Any, list[int]] = {}
    if rest:
        texts = pd.Index([None if is_missing(name) else text_of(name) for name in names], dtype=object)
        by_text = _at(texts, [text_of(asked[i]) for i in rest])
    return [
        (want, by_text.get(text_of(want), []) if i in rest else _get(by_value, want)) for i, want in enumerate(asked)
    ]


def _at(names: pd.Index, asked: list[Any]) -> dict[Any, list[int]]:
    """Places of those that are there."""
    places: dict[Any, list[int]] = {}
    for place in np.flatnonzero(names.isin(asked)):
        places.setdefault(names[place], []).append(int(place))
    return places


def _get(places: dict[Any, list[int]], want: Any) -> list[int]:
    return places.get(want, []) if pd.api.types.is_hashable(want) else []


def in_order(values: pd.Series, names: pd.Index, where: str) -> pd.Series:
    """Return the values of a series in the order of ``names``; one that has no names of its own stays as it is.

    Values of others, as of all cells where some have been chosen since, are left out.

    Raises
    ------
    ValueError
        If some of ``names`` have no value, or they are in another order and several of one name.
    """
    index = values.index
    if index.equals(names) or index.equals(pd.RangeIndex(len(names))):
        return values
    if index.is_unique and names.isin(index).all():
        return values.reindex(names)
    raise ValueError(
        f"Expected the index of `{where}` to be the {len(names)} names {listed(names[:2])}, ..., found "
        f"{len(index)} like {listed(index[:2])}, or several of one name. Pass an array (`.to_numpy()`) if the order is "
        "the same, or set the index."
    )


def aligned(values: pd.Series, names: pd.Index, where: str) -> np.ndarray:
    """Return the values of a series as an array in the order of ``names``; see :func:`in_order`."""
    return _array_of(in_order(values, names, where))


def square_in_order(matrix: Any, names: pd.Index, where: str) -> np.ndarray | sp.spmatrix | sp.sparray:
    """Return a matrix of cells and cells that a user gives, in memory; a table in the order of ``names``.

    Raises
    ------
    KeyError
        If a table is of other cells.
    TypeError
        If it is no matrix of numbers.
    ValueError
        If it has another shape, or a table has several rows of one name.
    """
    shape = (len(names), len(names))
    if not sp.issparse(matrix) and not isinstance(matrix, pd.DataFrame):
        matrix = np.asarray(matrix)
    if matrix.shape != shape:
        raise ValueError(f"Expected `{where}` of shape {shape}, cells by cells, found {matrix.shape}.")
    if isinstance(matrix, pd.DataFrame):
        default, table = pd.RangeIndex(len(names)), matrix
        matrix = dense(table)
        if not (table.index.equals(default) and table.columns.equals(default)):
            places = (
                places_of(axis, names, f"{where}.{name}", "the names of the cells")
                for axis, name in ((table.index, "index"), (table.columns, "columns"))
            )
            matrix = matrix[np.ix_(*places)]
    if matrix.dtype.kind not in "fiub":
        raise TypeError(f"Expected a matrix of numbers as `{where}`, found the type {matrix.dtype}.")
    return matrix


def _array_of(values: pd.Series) -> np.ndarray:
    """Values as an array; of nullable numbers, NaN where they are missing."""
    if pd.api.types.is_numeric_dtype(values.dtype) and pd.api.types.is_extension_array_dtype(values.dtype):
        return values.to_numpy(dtype=float, na_value=np.nan)
    return values.to_numpy()


def read_clusters(adata: AnnData, key: str) -> pd.Series:
    """Return ``adata.obs[key]`` as a categorical series."""
    values = require_key(adata.obs, key, "adata.obs", "Pass the key of a clustering.")
    if not isinstance(values.dtype, pd.CategoricalDtype):
        if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
            raise TypeError(
                f"Expected `adata.obs[{key!r}]` to be categorical, found {values.dtype}. "
                f"Convert it as `adata.obs[{key!r}] = adata.obs[{key!r}].astype('category')`."
            )
        values = values.astype("category")
    written = [name for name in values.cat.categories if name in MISSING_AS_TEXT]
    if written:
        logger.warning(
            "`adata.obs[%r]` has a group named %r, which may stand for what is missing. If so, mend it as "
            "`adata.obs[%r] = adata.obs[%r].astype('category').cat.remove_categories([%r])`",
            key, written[0], key, key, written[0],
        )  # fmt: skip
    return values


def require_cluster(values: pd.Series, name: Any, key: str) -> np.ndarray:
    """Return which cells are in cluster ``name``, which must exist and have cells."""
    return np.asarray(values.isin(chosen_groups(values, [name], f"adata.obs[{key!r}]", "cluster")), dtype=bool)


def cluster_names(values: pd.Series, where: str) -> list[str]:
    """Names of all categories as text, which must tell them apart."""
    names = [text_of(category) for category in values.cat.categories]
    doubles = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if doubles:
        raise ValueError(
            f"Expected categories of `{where}` with different names, found several that read {listed(doubles)}, of "
            f"different types. Rename them, as by `{where} = {where}.astype(str).astype('category')` to join them."
        )
    return names


def chosen_groups(values: pd.Series, wanted: Any, where: str, name: str) -> list[Any]:
    """Return those values of a column that a user names: as values, or by what they read as text where that is unique.

    Parameters
    ----------
    values
        Clusters, or other values of the cells.
    wanted
        One or several of them.
    where
        Name of the column, for messages.
    name
        Name of the user's argument.

    Returns
    -------
    The values in the order in which they are named. Names that are not there, or have no cells, are left out with a
    warning.

    Raises
    ------
    ValueError
        If none of several is there, or a name fits several values.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        everything = list(values.cat.categories)
        known = list(values.cat.remove_unused_categories().cat.categories)
    else:
        everything = known = list(values.dropna().unique())
    asked = list(wanted) if pd.api.types.is_list_like(wanted) else [wanted]
    places = places_by_name(pd.Index(known, dtype=object, tupleize_cols=False), asked)
    twice = [want for want, found in places if len(found) > 1]
    if twice:
        raise ValueError(
            f"Expected one value of `{where}` for each name in `{name}`, found several that read {listed(twice)}."
        )
    absent = [want for want, found in places if not len(found)]
    if absent:
        texts = {text_of(value) for value in everything}
        empty = [want for want in absent if text_of(want) in texts]
        without = f" ({listed(empty)} without cells)" if empty else ""
        there = f"There are {listed(known)}."
        if len(absent) == len(places):
            raise ValueError(f"Expected values of `{where}` in `{name}`, found {listed(absent)}{without}. {there}")
        logger.warning("Leaving out %s of `%s`: no values of `%s`%s. %s", listed(absent), name, where, without, there)
    return list(dict.fromkeys(known[found[0]] for _, found in places if len(found)))


def chosen_genes(adata: AnnData, chosen: Any, name: str) -> np.ndarray:
    """Boolean mask of the genes that a user names.

    Parameters
    ----------
    adata
        Annotated data.
    chosen
        Key of a mask in ``adata.var``, a gene, names of genes, or a mask (what :func:`read_mask` takes).
    name
        Name of the user's argument, for messages.

    Raises
    ------
    KeyError
        If a name is that of no gene.
    ValueError
        If a name is that of several genes, a mask is of another length or has missing values, or no gene is chosen.
    TypeError
        If it is none of these.
    """
    remedy = "Pass the key of a boolean column, a boolean mask or names of genes."
    if isinstance(chosen, str):
        is_gene = bool(places_by_name(adata.var_names, [chosen])[0][1])
        if is_gene and chosen in adata.var:
            raise ValueError(
                f"Expected `{name}` to be a gene or a column of `adata.var`, found that {chosen!r} is both. Pass "
                f"`[{chosen!r}]` for the gene, or `adata.var[{chosen!r}]`."
            )
        if is_gene:
            mask = _chosen(adata.var_names, [chosen], "adata.var_names", name, takes_numbers=False)
        else:
            column = require_key(adata.var, chosen, "adata.var", remedy)
            mask = read_mask(column, f"adata.var[{chosen!r}]", remedy)
    elif pd.api.types.is_list_like(chosen) and not isinstance(chosen, Mapping):
        mask = _chosen(adata.var_names, chosen, "adata.var_names", name, takes_numbers=False)
    else:
        raise TypeError(f"Expected names, a mask or a column of `adata.var` as `{name}`, found `{chosen!r}`. {remedy}")
    if not mask.any():
        shown = f"`adata.var[{chosen!r}]`" if isinstance(chosen, str) else f"`{name}`"
        raise ValueError(
            f"Expected {shown} to choose some of the {adata.n_vars} genes, found none. The genes are named like "
            f"{listed(adata.var_names[:3])}."
        )
    return mask


def chosen_cells(adata: AnnData, chosen: Any, name: str) -> np.ndarray:
    """Boolean mask of the cells that a user names.

    Parameters
    ----------
    adata
        Annotated data.
    chosen
        ``None`` (all cells); indices or names of cells; a mask of booleans (an array as long as the cells of 0 and 1
        alone could be indices too, and is an error); or a dictionary of one key of ``adata.obs``:

        - with the name of a value or a list of names, ``{"clusters": "Alpha"}``, ``{"leiden": ["0", "3"]}``: by value,
          or by what they read as text (0 and "0");
        - of a column of numbers, with a pair of limits, ``{"pseudotime": [0, 0.1]}``;
        - of a column of whole numbers, with one of them, or with a list of one or of three and more of them or a set
          (a list of two is a pair of limits, which a warning says if there are values between).
    name
        Name of the user's argument, for messages.

    Raises
    ------
    KeyError
        If a name or a key is not there.
    IndexError
        If an index is out of range.
    ValueError
        If a name is that of several cells, a mask is of another length, a list could be indices or a mask, no value is
        there, or no cell is chosen.
    TypeError
        If it is none of these.
    """
    if chosen is None:
        return np.ones(adata.n_obs, dtype=bool)
    if isinstance(chosen, Mapping):
        mask = _by_annotation(adata, chosen, name)
    else:
        mask = _chosen(adata.obs_names, chosen, "adata.obs_names", name, takes_numbers=True)
    if not mask.any():
        column = isinstance(chosen, str) and chosen in adata.obs
        raise ValueError(
            f"No {name.removesuffix('_ixs')} indices have been selected: `{chosen}` is no cell of `adata`."
            + (f" Pass `{{{chosen!r}: ...}}` to choose by `adata.obs[{chosen!r}]`." if column else "")
        )
    return mask


def _chosen(names: pd.Index, chosen: Any, where: str, argument: str, takes_numbers: bool) -> np.ndarray:
    """Mask of what a user names by a mask, by names or by numbers; the one rule for cells and genes."""
    things = "cells" if where == "adata.obs_names" else "genes"
    is_list = pd.api.types.is_list_like(chosen)
    if getattr(chosen, "ndim", 1) > 1:
        raise ValueError(f"Expected a mask or a list of {things} as `{argument}`, found shape {np.shape(chosen)}.")
    if not is_list:
        chosen = [chosen.item() if isinstance(chosen, (np.generic, np.ndarray)) else chosen]
    elif hasattr(chosen, "__array__") and not isinstance(chosen, (pd.Series, pd.Index)):
        chosen = np.asarray(chosen)  # of any library
    mask = np.zeros(len(names), dtype=bool)
    column = chosen if isinstance(chosen, pd.Series) else pd.Series(list(chosen), dtype=object)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    column = column.infer_objects()
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if not len(column):
        return mask
    if kind == "boolean" or (is_list and len(column) == len(names) and _reads_as_mask(column, kind, names)):
        if kind in ("integer", "floating") and takes_numbers:
            raise ValueError(
                f"Expected indices or a mask of {things} as `{argument}`, found {len(column)} numbers of 0 and 1 "
                "alone, which could be either. Pass booleans for a mask, as by `.astype(bool)`, or the two indices."
            )
        if len(column) != len(names):
            raise ValueError(
                f"Expected a mask of length {len(names)} as `{argument}`, found shape ({len(column)},). It needs a "
                f"truth value for each of the {things}."
            )
        if isinstance(chosen, pd.Series):
            column = pd.Series(aligned(chosen, names, argument))
        return read_mask(column, argument, f"Pass booleans for a mask of {things}.")
    if kind == "integer" and takes_numbers and not column.isna().any():
        numbers = column.to_numpy(dtype=np.int64)
        outside = numbers[(numbers >= len(names)) | (numbers < -len(names))]
        if len(outside):
            raise IndexError(
                f"Expected {argument.removesuffix('_ixs')} indices below {len(names)}, found {outside[0]}."
            )
        mask[numbers] = True
        return mask
    if kind not in ("string", "bytes", "mixed", "mixed-integer", "categorical", "integer"):
        raise TypeError(
            f"Expected `{argument}` to be {'indices, ' if takes_numbers else ''}names or a mask of {things}"
            f"{', or a dictionary' if takes_numbers else ''}, found {column.dtype} values."
        )
    mask[places_of(names, list(column), where, argument)] = True
    return mask


def _reads_as_mask(column: pd.Series, kind: str, names: pd.Index) -> bool:
    """Whether values, one for each name, are truth values; texts that are names themselves are not."""
    if truth_of(column) is None:
        return False
    return kind in ("integer", "floating", "boolean") or not set(map(text_of, column)) <= set(map(text_of, names))


def _by_annotation(adata: AnnData, chosen: Mapping[str, Any], name: str) -> np.ndarray:
    if len(chosen) != 1:
        raise ValueError(f"Expected one key in `{name}`, found {listed(chosen)}.")
    key, wanted = next(iter(chosen.items()))
    where = f"adata.obs[{key!r}]"
    values = require_key(adata.obs, key, "adata.obs", "Pass the key of a column with clusters or numbers.")
    several = list(wanted) if pd.api.types.is_list_like(wanted) else [wanted]
    if not several:
        return np.zeros(adata.n_obs, dtype=bool)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        known = numbers[np.isfinite(numbers)]
        are_numbers = all(map(is_number, several))
        if len(several) == 2 and are_numbers and not isinstance(wanted, Set):
            low, high = sorted(several)
            inside = (numbers >= low) & (numbers <= high)
            between = np.unique(numbers[inside & (numbers > low) & (numbers < high)])
            if pd.api.types.is_integer_dtype(values.dtype) and len(between):
                logger.warning(
                    "Taking `%s` of `%s` as limits of `%s`, with all values between. Pass a set, or convert the column "
                    "by `.astype('category')`, to choose these two values alone",
                    wanted, name, where,
                )  # fmt: skip
            return inside
        if not len(known) or (known != np.rint(known)).any():
            if not are_numbers:
                raise TypeError(f"Expected two numbers as limits for `{where}`, found `{wanted}`.")
            raise ValueError(f"Expected two limits for `{where}`, found {len(several)}: `{wanted}`.")
    groups = chosen_groups(values, several, where, name)
    return np.asarray(values.isin(groups), dtype=bool)
