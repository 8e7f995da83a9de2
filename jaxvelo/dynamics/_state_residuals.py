"""How far cells are from the four states of a gene: off, on, empty and steady."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.dynamics._splicing import SplicingKinetics, splicing_solution

OFF, ON, EMPTY, STEADY = range(4)


def state_residuals(
    kinetics: SplicingKinetics,
    time_on: Float[np.ndarray, "cells genes"],
    time_off: Float[np.ndarray, "cells genes"],
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
    deviation: Float[np.ndarray, "2 genes"],
) -> Float[np.ndarray, "4 2 cells genes"]:
    """Residuals of unspliced and spliced counts from each state, in units of the standard deviations.

    Parameters
    ----------
    kinetics
        Rates of the genes.
    time_on, time_off
        Times since the last switch with the gene on and with it off, of shape (cells, genes).
    unspliced, spliced
        Observed counts, of shape (cells, genes).
    deviation
        Standard deviations of unspliced and spliced counts, of shape (2, genes).

    Returns
    -------
    numpy.ndarray
        In double precision, of shape (4, 2, cells, genes). States: off and on, at these times; no counts at all; and
        the steady state, which a gene that is on comes to in the end.
    """
    alpha, beta, gamma, switch, scaling = rates(kinetics)
    nothing = np.zeros_like(alpha)
    on = splicing_solution(time_on, nothing, nothing, alpha, beta, gamma, xp=np)
    switched = splicing_solution(switch, nothing, nothing, alpha, beta, gamma, xp=np)
    off = splicing_solution(time_off, *switched, nothing, beta, gamma, xp=np)
    places = off, on, (nothing, nothing), (alpha / beta, alpha / gamma)
    return np.stack(
        [
            np.stack([(unspliced - u * scaling) / deviation[0][None], (spliced - s) / deviation[1][None]])
            for u, s in places
        ]
    )


def nearest_state(
    residuals: Float[np.ndarray, "states 2 cells genes"], weights: sp.csr_matrix
) -> Int[np.ndarray, "cells genes"]:
    """State that each cell's neighbourhood is nearest to on the whole, by the mean of the squared distances."""
    squared = np.sum(np.square(residuals), axis=1)
    return np.argmin(np.stack([weights @ of_state for of_state in squared]), axis=0)


def rates(kinetics: SplicingKinetics) -> list[Float[np.ndarray, "1 genes"]]:
    """Transcription, splicing, degradation, switching time and scaling as rows in double precision."""
    columns = kinetics.alpha, kinetics.beta, kinetics.gamma, kinetics.switching_time, kinetics.scaling
    return [np.asarray(column, dtype=np.float64)[None] for column in columns]
