"""What a user names by a mask, by names or by numbers: the one rule for cells and genes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxvelo.annotated.masks import read_mask, truth_of
from jaxvelo.annotated.names import places_of, text_of
from jaxvelo.annotated.order import aligned


def selected(names: pd.Index, chosen: Any, where: str, argument: str, takes_numbers: bool) -> np.ndarray:
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
