"""Sets of cells that a chain does not leave again, and how likely each of them is to be its end."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from jaxvelo.markov._absorbing_chain import Outcome
from jaxvelo.markov._absorption import absorption_probabilities


def closed_classes(transitions: sp.csr_matrix) -> list[Int[np.ndarray, " members"]]:
    """Classes of cells that lead to each other, and nowhere else; every chain has at least one.

    Parameters
    ----------
    transitions
        Transition matrix of shape (cells, cells), without stored zeros.

    Returns
    -------
    list of numpy.ndarray
        The cells of each class, in ascending order.

    References
    ----------
    Kemeny & Snell (1976), section 2.4, where they are called ergodic sets.

    Examples
    --------
    >>> chain = sp.csr_matrix([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    >>> sorted(cells.tolist() for cells in jv.markov.closed_classes(chain))
    [[1], [2, 3]]
    """
    label = closed_class_of_cells(transitions)
    return [np.flatnonzero(label == c) for c in range(label.max() + 1)]


def closed_class_of_cells(transitions: sp.csr_matrix) -> Int[np.ndarray, " cells"]:
    """Closed class of each cell, -1 for the cells of none."""
    n_parts, part = connected_components(transitions, directed=True, connection="strong")
    if n_parts == 1:
        return np.zeros(len(part), dtype=np.int32)
    row = np.repeat(part, np.diff(transitions.indptr))
    leaves = row != part[transitions.indices]
    is_closed = np.ones(n_parts, dtype=bool)
    is_closed[row[leaves]] = False
    number = np.full(n_parts, -1, dtype=np.int32)
    number[is_closed] = np.arange(np.count_nonzero(is_closed))
    return number[part]


def chances_of_closed_classes(transitions: sp.csr_matrix, most: int) -> Float[np.ndarray, "cells classes"]:
    """Probability to end in each closed class but one: with a constant, all functions that no step changes.

    Parameters
    ----------
    transitions
        Transition matrix of shape (cells, cells).
    most
        At most so many classes, the larger ones.

    Returns
    -------
    numpy.ndarray
        Without columns, if there is one class only, or the probabilities are not known well.
    """
    label = closed_class_of_cells(transitions)
    sizes = np.bincount(label + 1)[1:]
    if len(sizes) == 1:
        return np.empty((len(label), 0))
    # The largest class first, which is left out; all small ones are one.
    rank = np.empty(len(sizes) + 1, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    rank[-1] = -1
    n_kept = min(len(sizes) - 1, most)
    ends = np.minimum(rank, n_kept + 1)[label]
    n_ends = min(len(sizes), n_kept + 2)
    if (label >= 0).all():
        chances = (ends[:, None] == np.arange(n_ends)).astype(float)
    else:
        found = absorption_probabilities(transitions, ends, n_ends)
        if found.outcome != Outcome.SOLVED:
            return np.empty((len(label), 0))
        chances = found.probabilities
    return chances[:, 1 : n_kept + 1]
