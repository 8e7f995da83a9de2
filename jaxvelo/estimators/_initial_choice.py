"""Which macrostates are initial."""

from __future__ import annotations

import numpy as np

from jaxvelo.estimators._coarse_chain import CoarseChain

LOST = 0.05
"""A macrostate of which less is left in the long run than this part of its share at the start is left for good."""


def choose_initial(coarse: CoarseChain, n_states: int) -> tuple[list[str], str]:
    r"""Choose the macrostates where the process begins, and say why.

    Those where it is most rarely in the long run, as in CellRank, if that tells. But rare are all states that are left
    for good, however slowly: terminal states too that lose a few cells to another one. Which share is the smallest is
    then a matter of how little states overlap. So, of the states that lose nearly all, those come first that are
    entered least, for each time that they are left,

    .. math:: \frac{\sum_{i \neq j} p_i T_{ij}}{p_j (1 - T_{jj})}

    in one step from the start :math:`p`. Where the process begins, it does not come back to; what it only passes, it
    comes to from there; and a terminal state has won from others.

    Parameters
    ----------
    coarse
        The macrostates as a chain, with their long run.
    n_states
        Number of states to choose.
    """
    if coarse.stationary is None:
        raise RuntimeError(
            "Expected the long-run distribution over the macrostates, found none. Compute them anew by "
            "`.compute_macrostates()`, or set initial states by `.set_initial_states()`."
        )
    matrix, initial = coarse.transition_matrix.to_numpy(), coarse.initial.to_numpy()
    share = coarse.stationary.to_numpy()
    stays = np.diag(matrix)
    # Where states overlap, a probability may be a little less than zero, or more than one.
    entered = np.maximum(initial @ (matrix - np.diag(stays)), 0)
    left = initial * np.maximum(1 - stays, 0)
    ratio = np.divide(entered, left, out=np.full(len(stays), np.inf), where=left > 0)
    is_lost = share < LOST * initial
    ranked = np.lexsort([share, np.where(is_lost, ratio, 0), ~is_lost])
    names = [str(coarse.initial.index[state]) for state in ranked]
    shown = [f"{name} ({share[state]:.2g}" for name, state in zip(names, ranked, strict=True)]
    shown = [
        f"{text}, entered {ratio[state]:.2g} times for each that it is left)" if is_lost[state] else f"{text})"
        for text, state in zip(shown, ranked, strict=True)
    ]
    reason = (
        "of those that are left for good, the least entered" if is_lost[ranked[0]] else "the rarest in the long run"
    )
    return names[:n_states], f"{reason}: {', '.join(shown[: n_states + 1])}"
