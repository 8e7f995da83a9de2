"""Cells that a user has chosen."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from jaxvelo.annotated.arguments import is_number, listed
from jaxvelo.annotated.clusters import chosen_groups
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.selection import selected
from jaxvelo.configuration import logger


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
        mask = selected(adata.obs_names, chosen, "adata.obs_names", name, takes_numbers=True)
    if not mask.any():
        column = isinstance(chosen, str) and chosen in adata.obs
        raise ValueError(
            f"No {name.removesuffix('_ixs')} indices have been selected: `{chosen}` is no cell of `adata`."
            + (f" Pass `{{{chosen!r}: ...}}` to choose by `adata.obs[{chosen!r}]`." if column else "")
        )
    return mask


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
