"""The leading spectrum of a transition matrix, as an estimator holds it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import ArpackNoConvergence

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.order import aligned
from jaxvelo.annotated.progress_bar import progress_bar
from jaxvelo.configuration import logger
from jaxvelo.leading_eigenvectors import leading_eigenvectors
from jaxvelo.markov import Schur, eigengap, schur, stationary_distribution

LEAST_COMPONENTS = 20
"""So many Schur vectors are computed unless the user asks for fewer: enough to see gaps of the spectrum."""


def find_schur(
    matrix: sp.csr_matrix,
    n_components: int,
    which: Any,
    initial_distribution: Any,
    names: pd.Index,
    shows_progress: bool,
) -> Schur:
    """Compute leading Schur vectors, at most as many as there are cells, with a bar that counts products.

    Raises
    ------
    ValueError
        If ``which`` is unknown, or the initial distribution is not positive, or has not a number for each cell.
    """
    check_integer("n_components", n_components, 1)
    if n_components < 2:
        logger.warning("There are at least two Schur vectors to speak of: computing `n_components=2`")
    number = min(max(n_components, 2), matrix.shape[0])
    if number < n_components:
        logger.warning("There are %d cells only: computing `n_components=%d`", number, number)
    which = check_which(which)
    eta = _distribution(initial_distribution, names)
    with progress_bar(None, "Schur vectors", "products", shows_progress) as bar:
        return schur(matrix, number, which=which, initial_distribution=eta, report=bar.update)


def schur_eigenvalues(found: Schur, which: str, alpha: float) -> dict[str, Any]:
    """Write the eigenvalues of a Schur matrix as CellRank does."""
    return _written(np.asarray(found.eigenvalues, dtype=complex), which, alpha)


def eigendecomposition(matrix: sp.csr_matrix, k: int, which: Any, alpha: float, only_evals: bool) -> dict[str, Any]:
    """Compute eigenvalues, and right and left eigenvectors, with the names that CellRank gives them.

    Raises
    ------
    ValueError
        If ``which`` is unknown, or ``k`` out of range.
    ArithmeticError
        If not all are found.
    """
    check_integer("k", k, 2)
    largest: Literal["real", "magnitude"] = "real" if check_which(which) == "LR" else "magnitude"
    if k > matrix.shape[0]:
        k = matrix.shape[0]
        logger.warning("There are %d cells only: computing `k=%d`", k, k)
    values, right = _ordered(matrix, k, largest)
    found = _written(values, which, check_alpha(alpha))
    if only_evals:
        return found
    _, left = _ordered(sp.csr_matrix(matrix.T), k, largest)
    decomposition = {**found, "V_l": left, "V_r": right}
    try:
        decomposition["stationary_dist"] = np.asarray(stationary_distribution(matrix))
    except ArithmeticError as error:
        logger.warning("Going on without the stationary distribution. %s", error)
    return decomposition


def check_which(which: Any) -> Literal["LR", "LM"]:
    """Return ``which`` if it is one of CellRank's."""
    if which not in ("LR", "LM"):
        raise ValueError(f"Expected `which` to be 'LR' (largest real part) or 'LM' (magnitude), found `{which!r}`.")
    return which


def check_alpha(alpha: Any) -> float:
    """Return the weight of the distance from one in an eigengap if it is a number."""
    if not is_number(alpha):
        raise ValueError(f"Expected `alpha` to be a number, found `{alpha!r}`.")
    return float(alpha)


def _written(values: np.ndarray, which: str, alpha: float) -> dict[str, Any]:
    gap = eigengap(values, alpha) - 1  # CellRank counts from zero
    return {"D": values, "eigengap": gap, "params": {"which": which, "k": len(values), "alpha": alpha}}


def _ordered(matrix: sp.csr_matrix, k: int, largest: Literal["real", "magnitude"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues in falling order of their real part, of a pair the upper one first, and eigenvectors."""
    try:
        values, vectors = leading_eigenvectors(matrix, k, largest, symmetric=False)
    except ArpackNoConvergence as error:
        raise ArithmeticError(
            f"Expected {k} eigenvalues, found {len(error.eigenvalues)} that converged. Ask for fewer as `k`, or "
            "compute Schur vectors by `.compute_schur()`."
        ) from error
    order = np.lexsort([-values.imag, -np.round(values.real, 9)])
    return values[order].astype(complex), vectors[:, order].astype(complex)


def _distribution(given: Any, names: pd.Index) -> Float[np.ndarray, " cells"] | None:
    if given is None:
        return None
    values = aligned(given, names, "initial_distribution") if isinstance(given, pd.Series) else np.asarray(given)
    if values.shape != (len(names),):
        raise ValueError(
            f"Expected `initial_distribution` with a number for each of the {len(names)} cells, found the shape "
            f"{values.shape}."
        )
    try:
        return values.astype(np.float64)
    except ValueError as error:
        raise ValueError(f"Expected numbers in `initial_distribution`, found the type {values.dtype}.") from error
