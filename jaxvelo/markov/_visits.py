"""How often a Markov chain is expected at each cell."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from jaxvelo.markov._absorbing_chain import AbsorbingChain
from jaxvelo.markov._absorption import DIRECT_CELLS, effort_of


def expected_visits(
    transitions: sp.csr_matrix,
    terminal: Int[np.ndarray, " cells"],
    starts: Float[np.ndarray, " cells"],
    max_steps: int = 500,
    direct_cells: int = DIRECT_CELLS,
) -> Float[np.ndarray, " cells"]:
    r"""Expected number of visits at each cell until a terminal one is reached.

    .. math:: v (I - Q) = s

    with :math:`Q` the transitions among the cells that are not terminal (Kemeny & Snell 1976, theorem 3.2.4, in which
    :math:`(I - Q)^{-1}` is the fundamental matrix).

    Parameters
    ----------
    transitions
        Transition matrix, shape ``(cells, cells)``.
    terminal
        Class of each terminal cell, -1 for all others, shape ``(cells,)``. Each cell must be able to reach a terminal
        one, of any class.
    starts
        :math:`s`, number of chains that begin at each cell, shape ``(cells,)``; those that begin at terminal cells are
        left out.
    max_steps, direct_cells
        As of :func:`absorption_probabilities`.

    Returns
    -------
    numpy.ndarray
        :math:`v`, shape ``(cells,)``, in visits; zero at terminal cells, NaN where it is not known.

    Examples
    --------
    >>> chain = sp.csr_matrix([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    >>> terminal = np.array([0, -1, -1, 1])
    >>> jv.markov.expected_visits(chain, terminal, starts=np.array([0.0, 1.0, 0.0, 0.0])).round(3).tolist()
    [0.0, 1.333, 0.667, 0.0]
    """
    effort = effort_of(None, max_steps, direct_cells)
    chain = AbsorbingChain(transitions, np.where(np.asarray(terminal) >= 0, 0, -1))
    found = chain.absorb(1, effort)
    return chain.solve_accurately(starts[:, None], found.inverse, found.way, effort, transposed=True)[:, 0]
