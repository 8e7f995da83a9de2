"""How many macrostates, and which: from Schur vectors to memberships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.configuration import logger
from jaxvelo.estimators._coarse_chain import CoarseChain
from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._state_cells import most_likely_cells
from jaxvelo.estimators._state_names import named_states
from jaxvelo.estimators._state_set import States, assigned
from jaxvelo.markov import CoarseGraining, Schur, coarse_grain, min_chi, stationary_distribution

THOROUGH, QUICK = 2000, 100
"""Effort of a search. A quick one of 20 macrostates of 4,000 cells takes a tenth of the time, and finds the same up to
five states; among more, less crisp ones."""


class Range(NamedTuple):
    """Numbers of states to choose from."""

    least: int
    most: int


def read_n_states(n_states: Any) -> int | Range | None:
    """Read how many states a user wants: a number, two of them as limits, or ``None``.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if n_states is None:
        return None
    if isinstance(n_states, Sequence | np.ndarray) and not isinstance(n_states, str):
        if len(n_states) != 2:
            raise ValueError(f"Expected `n_states` to be a number or two limits, found {len(n_states)} entries.")
        for limit in n_states:
            check_integer("n_states", limit, 1)
        least, most = sorted(int(limit) for limit in n_states)
        if least < 3:
            logger.warning(
                "Two states always fit best, as a line has two ends: choosing from 3 on. Pass `n_states=2` for two"
            )
        least = max(least, 3)
        return Range(least, max(most, least + 1))
    check_integer("n_states", n_states, 1)
    return int(n_states)


def splits_pair(schur: Schur, n_states: int) -> bool:
    """Whether the first so many Schur vectors hold one half of a pair of conjugate eigenvalues at their end."""
    return n_states < len(schur.matrix) and bool(schur.matrix[n_states, n_states - 1] != 0)


def numbers_that_split(schur: Schur) -> list[int]:
    """Numbers of states that would split a pair."""
    return [n for n in range(2, len(schur.matrix)) if splits_pair(schur, n)]


def whole_pairs(schur: Schur, n_states: int) -> int:
    """Return the number of states, or one more, with a warning, if it splits a pair."""
    number = n_states + splits_pair(schur, n_states)
    if number > n_states:
        logger.warning("%d macrostates would split a pair of conjugate eigenvalues: computing %d", n_states, number)
    return number


def best_number(schur: Schur, limits: Range) -> int:
    """Choose the number of states that fits the cells best: that with the largest :func:`~jaxvelo.markov.min_chi`.

    Raises
    ------
    ValueError
        If all of them split pairs of conjugate eigenvalues.
    """
    numbers = range(limits.least, min(limits.most, len(schur.matrix)) + 1)
    scores = min_chi(schur, numbers)
    if np.isnan(scores).all():
        raise ValueError(
            f"Expected a number of states that splits no pair of eigenvalues, found none in {list(numbers)}."
        )
    best = numbers[int(np.nanargmax(scores))]
    shown = ", ".join(f"{n}: {score:.4g}" for n, score in zip(numbers, scores, strict=True) if not np.isnan(score))
    logger.info("    minChi of %s; choosing %d", shown, best)
    return best


def check_optimizer(optimizer: Any) -> None:
    """Raise a ValueError unless there is a search of that name."""
    if optimizer not in ("gradient", "nelder-mead"):
        raise ValueError(f"Expected `optimizer` to be 'gradient' or 'nelder-mead', found `{optimizer!r}`.")


class Search(NamedTuple):
    """How many macrostates to search for, how, and how long.

    Attributes
    ----------
    n_states
        Number of macrostates.
    optimizer, effort
        As ``method`` and ``effort`` of :func:`~jaxvelo.markov.coarse_grain`.
    """

    n_states: int
    optimizer: Literal["gradient", "nelder-mead"]
    effort: int = THOROUGH


def find_macrostates(
    adata: AnnData,
    transitions: sp.csr_matrix,
    schur: Schur,
    search: Search,
    n_cells: int | None,
    cluster_key: Any,
    weight_key: str | None,
) -> tuple[States, CoarseChain | None]:
    """Find so many macrostates, and the chain on them; ``None`` for a single one.

    The memberships of a single one are the stationary distribution.

    Parameters
    ----------
    adata
        Annotated data; nothing is written there.
    transitions
        Transition matrix.
    schur
        At least so many Schur vectors, which split no pair.
    search
        How many macrostates, and how to search.
    n_cells
        How many cells stand for each state; all that belong to it most if ``None``.
    cluster_key, weight_key
        As of :func:`~jaxvelo.estimators._state_names.named_states`.
    """
    if search.n_states == 1:
        stationary = np.asarray(stationary_distribution(transitions, schur.initial_distribution))
        return _states_of_memberships(adata, stationary[:, None], n_cells, cluster_key, weight_key), None
    found = coarse_grain(schur, search.n_states, method=search.optimizer, effort=search.effort)
    states = _states_of_memberships(adata, np.asarray(found.memberships), n_cells, cluster_key, weight_key)
    return states, _coarse_chain(found, states.names)


def _states_of_memberships(
    adata: AnnData,
    memberships: Float[np.ndarray, "cells states"],
    n_cells: int | None,
    cluster_key: Any,
    weight_key: str | None,
) -> States:
    """Choose the cells that stand for macrostates, and name these."""
    names = [str(i) for i in range(memberships.shape[1])]
    codes = memberships.argmax(axis=1) if n_cells is None else most_likely_cells(memberships, n_cells, names)
    named = named_states(adata, codes, names, cluster_key, weight_key)
    return States(
        assigned(codes, named.names, adata.obs_names),
        tuple(named.colors),
        memberships=Lineage(memberships, names=named.names, colors=named.colors),
    )


def _coarse_chain(found: CoarseGraining, names: list[str]) -> CoarseChain:
    """Give the states of a coarse-graining their names."""
    return CoarseChain(
        pd.DataFrame(np.asarray(found.transition_matrix), index=names, columns=names),
        pd.Series(np.asarray(found.stationary), index=names),
        pd.Series(np.asarray(found.initial), index=names),
        float(found.crispness),
    )
