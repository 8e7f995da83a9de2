"""Times of cells from the solution of the splicing equations, solved for the time."""

import numpy as np
from jaxtyping import Bool, Float

from jaxvelo.dynamics._splicing import SplicingKinetics, splicing_solution
from jaxvelo.dynamics._state_residuals import rates

# Parts of the way that are taken for the beginning and the end of it.
LEAST = 1e-6
# A step between neighbouring times is a gap if it is longer than GAP times this percentile of all steps.
PERCENTILE, GAP = 99.5, 3


def inverted_times(
    kinetics: SplicingKinetics,
    unspliced: Float[np.ndarray, "cells genes"],
    spliced: Float[np.ndarray, "cells genes"],
) -> tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "cells genes"]]:
    r"""Times since the last switch with the gene on, and with it off, at which its counts would be those of the cells.

    Where :math:`\gamma \geq \beta`, by the unspliced counts, :math:`e^{-\beta\tau} = (u - u_\infty)/(u_0 - u_\infty)`;
    otherwise by :math:`x = s - \frac{\beta}{\gamma - \beta} u`, which changes at the single rate :math:`\gamma`,
    :math:`e^{-\gamma\tau} = (x - x_\infty)/(x_0 - x_\infty)`. No search is needed, and a cell off the curve gets the
    time of another point than the nearest.

    Parameters
    ----------
    kinetics
        Rates of the genes, positive.
    unspliced, spliced
        Observed counts, of shape (cells, genes).

    Returns
    -------
    tuple of numpy.ndarray
        In double precision, of shape (cells, genes). With the gene on, at most the switching time; with the gene off,
        at most the latest time of a cell with spliced counts.

    References
    ----------
    Bergen et al. (2020), Methods: explicit assignment of times, as in scVelo.
    """
    alpha, beta, gamma, switch, scaling = rates(kinetics)
    u, s = unspliced / scaling, spliced.astype(np.float64)
    nothing = np.zeros_like(alpha)
    switched = splicing_solution(switch, nothing, nothing, alpha, beta, gamma, xp=np)
    on = _since(u, s, nothing, nothing, alpha, beta, gamma)
    off = _since(u, s, *switched, nothing, beta, gamma)
    latest = np.max(off, axis=0, initial=0, where=s > 0)
    return np.clip(on, 0, switch), np.clip(off, 0, latest[None])


def _since(
    u: Float[np.ndarray, "cells genes"],
    s: Float[np.ndarray, "cells genes"],
    u_first: Float[np.ndarray, "1 genes"],
    s_first: Float[np.ndarray, "1 genes"],
    alpha: Float[np.ndarray, "1 genes"],
    beta: Float[np.ndarray, "1 genes"],
    gamma: Float[np.ndarray, "1 genes"],
) -> Float[np.ndarray, "cells genes"]:
    """Time since the counts were the first ones."""
    by_unspliced = gamma >= beta
    factor = np.where(by_unspliced, 0, beta / np.where(by_unspliced, 1, gamma - beta))
    rate = np.where(by_unspliced, beta, gamma)
    now, first, last = (
        np.where(by_unspliced, x, y - factor * x)
        for x, y in ((u, s), (u_first, s_first), (alpha / beta, alpha / gamma))
    )
    return -np.log(np.clip((now - last) / (first - last), LEAST, 1 - LEAST)) / rate


def without_gaps(
    time_on: Float[np.ndarray, "cells genes"],
    time_off: Float[np.ndarray, "cells genes"],
    is_on: Bool[np.ndarray, "cells genes"],
) -> tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, "cells genes"]]:
    """Close the gaps between the times of the cells on each branch: later cells come earlier by their length.

    Times on the branch that a cell is not on stay as they are.
    """
    time_on, time_off = time_on.copy(), time_off.copy()
    for gene, on in enumerate(is_on.T):
        parts = [(time_on[:, gene], np.flatnonzero(on)), (time_off[:, gene], np.flatnonzero(~on))]
        parts = [(times, cells[np.argsort(times[cells], kind="stable")]) for times, cells in parts]
        steps = [np.diff(times[cells], prepend=0) for times, cells in parts]
        longest = GAP * np.percentile(np.concatenate(steps), PERCENTILE)
        for (times, cells), step in zip(parts, steps, strict=True):
            times[cells] -= np.cumsum(np.where(step > longest, step, 0))
    return time_on, time_off
