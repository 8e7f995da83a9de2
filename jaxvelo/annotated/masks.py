"""Truth values, in any form in which tools and files hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxvelo.annotated.arguments import is_missing, listed
from jaxvelo.annotated.names import text_of


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
