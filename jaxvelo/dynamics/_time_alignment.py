"""One unit of time for all genes."""

from typing import Any

from jaxtyping import Float

from jaxvelo.dynamics._largest import largest


def align_total_time(
    fit_time: Float[Any, "cells genes"], switching_time: Float[Any, " genes"], total: float
) -> Float[Any, " genes"]:
    r"""Compute the factors that give every gene the same total time.

    A gene's own total is the largest time of cells with the gene on, plus the largest since the switch of those with it
    off, divided by the share of cells that are neither at its beginning nor at its switch. NumPy arrays are computed
    with NumPy, JAX arrays with JAX; then it is differentiable in the times, which cells are last held fixed.

    Parameters
    ----------
    fit_time
        Times of the cells, of shape (cells, genes).
    switching_time
        Of shape (genes,), in the same unit.
    total
        Time that all genes shall take.

    Returns
    -------
    array
        Factors of shape (genes,): times are multiplied with them, rates divided by them. 1 where no time passes.

    References
    ----------
    Bergen et al. (2020); scVelo's ``align_dynamics``.

    Examples
    --------
    >>> times, switch = np.array([[0.5], [1.5], [2.5], [4.5]]), np.array([2.0])
    >>> jv.dynamics.align_total_time(times, switch, total=20.0).tolist()  # 1.5 on and 2.5 off take 4
    [5.0]
    """
    xp = fit_time.__array_namespace__()
    switch = switching_time[None]
    passed = largest(xp.where(fit_time < switch, fit_time, 0))
    passed = passed + largest(xp.where(fit_time > switch, fit_time - switch, 0))
    moving = 1 - ((fit_time == switch) | (fit_time == 0)).astype(passed.dtype).mean(axis=0)
    passed = passed / xp.where(moving == 0, 1, moving)
    return xp.where(passed > 0, total / xp.where(passed > 0, passed, 1), 1.0)
