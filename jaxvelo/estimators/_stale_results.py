"""Whether stored results are those of the transition matrix that stands beside them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.configuration import logger
from jaxvelo.estimators._fate_results import FateResults

TOLERANCE = 1e-3
"""So far may results be from their equations: single precision and loose solvers are nearer, other matrices are not."""
N_VECTORS = 3
"""So many Schur vectors are looked at."""


def warn_of_stale_results(matrix: sp.csr_matrix, keys: FateKeys, results: FateResults) -> None:
    r"""Warn of what does not belong to the matrix, as when cells have been chosen, or the matrix was computed anew.

    Those are Schur vectors with :math:`T X \neq X R`, and fates with :math:`T B \neq B` at cells of no terminal state.

    Parameters
    ----------
    matrix
        Transition matrix.
    keys
        Names of the entries.
    results
        What was read from them.
    """
    stale = []
    vectors, form = results.schur_vectors, results.schur_matrix
    if vectors is not None and form is not None and len(form) == vectors.shape[1]:
        x = vectors[:, :N_VECTORS]
        off = np.sqrt(((matrix @ x - vectors @ form[:, :N_VECTORS]) ** 2).mean(axis=0))
        if not (off <= TOLERANCE * np.sqrt((x**2).mean(axis=0))).all():
            stale.append(f"`adata.obsm[{keys.schur_vectors!r}]`")
    fates, terminal = results.fate_probabilities, results.terminal_states
    if fates is not None and terminal is not None:
        off = np.abs(matrix @ fates.X - fates.X)[terminal.codes < 0]
        if not (off <= TOLERANCE).all():
            stale.append(f"`adata.obsm[{keys.fate_probabilities!r}]`")
    if stale:
        logger.warning(
            "%s and what was computed with it belong to another transition matrix: perhaps cells have been chosen, or "
            "the kernel was computed anew, since. Compute macrostates, terminal states and fates anew",
            " and ".join(stale),
        )
