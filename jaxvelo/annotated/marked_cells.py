"""Cells that a user, or a tool before, has marked as roots or ends: by score, by label, by number or by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.masks import truth_of
from jaxvelo.annotated.names import one_name

ROUNDING = 1e-6  # of the weights of neighbourhoods, which are held in single precision
MOST_AVERAGES = 20


def score_of(values: pd.Series) -> Float[np.ndarray, " cells"]:
    """Score of each cell: numbers as they are, truth values as 1 and 0, labels as ones; 0 where there is none."""
    truth = truth_of(values)
    if truth is not None:
        return truth.fillna(False).to_numpy(dtype=float)
    if isinstance(values.dtype, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(values.cat.categories.dtype):
        values = values.astype(float)
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return values.notna().to_numpy(dtype=float)
    return values.astype(float).fillna(0.0).to_numpy()


def is_informative(score: Float[np.ndarray, " cells"]) -> bool:
    """Whether a score sets some cells apart from others."""
    return bool(np.isfinite(score).all() and score.max() > score.min())


def score_at(adata: AnnData, key: str | int, scores: dict[str, np.ndarray]) -> Float[np.ndarray, " cells"] | None:
    """Return the score of each cell under a key, from those that are not in ``adata.obs`` yet or from it; or None."""
    if not isinstance(key, str):
        return None
    if key in scores:
        return scores[key]
    return score_of(require_key(adata.obs, key, "adata.obs", "")) if key in adata.obs else None


def number_at(adata: AnnData, key: str | int, argument: str) -> int:
    """Return the number of the cell that a user names by its number or its name."""
    if isinstance(key, np.ndarray) and key.size == 1:  # as files give numbers back
        key = key.item()
    if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
        if not 0 <= key < adata.n_obs:
            raise ValueError(f"Expected `{argument}` to be the number of one of {adata.n_obs} cells, found `{key}`.")
        return int(key)
    try:
        return one_name(adata.obs_names, key, "adata.obs_names", argument)
    except KeyError as error:
        raise KeyError(
            f"Expected `{argument}` to be a key of `adata.obs`, or the number or the name of a cell, found `{key!r}`. "
            f"There are the keys {listed(adata.obs)}."
        ) from error


def cell_at(
    adata: AnnData,
    key: str | int,
    scores: dict[str, np.ndarray],
    neighborhoods: sp.csr_matrix,
    argument: str,
) -> int:
    """Find the one cell that a user names.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Number or name of a cell; or key of a score, for the cell around which it is highest.
    scores
        Scores that are not in ``adata.obs`` yet.
    neighborhoods
        Weights of the mean over each cell and its neighbours.
    argument
        Name of the user's argument, for messages.
    """
    score = score_at(adata, key, scores)
    if score is None:
        return number_at(adata, key, argument)
    if not is_informative(score):
        raise ValueError(
            f"Expected `adata.obs[{key!r}]` to mark some cells, found the same or no finite score for all. "
            f"Pass the number or the name of a cell as `{argument}`."
        )
    return highest_around(score, neighborhoods)


def highest_around(score: Float[np.ndarray, " cells"], neighborhoods: sp.csr_matrix) -> int:
    """Find the cell around which a score is highest, averaged over each cell and its neighbours.

    Scores are often cut off at the top, so that many cells have neighbours of the highest score alone, and rounding
    would choose among them. Of such cells it is the one whose neighbours stand highest in turn, the innermost.
    """
    mean = neighborhoods @ score
    best = _highest(mean, np.arange(len(mean)))
    for _ in range(MOST_AVERAGES):
        if len(best) == 1:
            break
        mean = neighborhoods @ mean
        best = _highest(mean, best)
    return int(best[0])


def _highest(score: Float[np.ndarray, " cells"], cells: Int[np.ndarray, " some"]) -> Int[np.ndarray, " best"]:
    """Those of some cells with the highest score, within rounding."""
    largest = score[cells].max()
    return cells[score[cells] >= largest - ROUNDING * np.abs(largest)]
