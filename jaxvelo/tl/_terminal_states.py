"""Where the cells come from and where they go to in the long run, under scVelo's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float

from jaxvelo.annotated.arguments import is_number
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.graphs import graph_key
from jaxvelo.annotated.neighbors import read_neighbors, warn_about_isolated
from jaxvelo.annotated.parts import Part, column_of, parts_of
from jaxvelo.annotated.velocity_graph import read_velocity_graph
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.markov import stopped_distribution

SCALE, TYPICAL = 10.0, 2.5
"""Factor of the correlations, and the most that the median of their magnitudes may come to by it."""
PERCENTILES = (2, 98)
ROUNDING = 1e-9
STOP = 1e-3
MOST_ELSEWHERE = 0.1
"""Share of the cells that may come from elsewhere than the root without a warning; below 0.09 on simulated cells."""


@accepts_data
def terminal_states(
    adata: AnnData,
    vkey: str = "velocity",
    *,
    groupby: str | None = None,
    groups: str | Sequence[str] | None = None,
    eps: float = STOP,
    neighbors_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Find root cells and end points as stationary states of the velocity graph.

    With the correlations :math:`\pi_{ij}` of :func:`jaxvelo.tl.velocity_graph`, the process and that backward in time
    are

    .. math:: T_{ij} = \frac{e^{\sigma \pi_{ij}}}{\sum_k e^{\sigma \pi_{ik}}}, \qquad
              B_{ij} = \frac{e^{\sigma \pi_{ji}}}{\sum_k e^{\sigma \pi_{ki}}}, \qquad
              \sigma = \min\Big(10, \frac{2.5}{\operatorname{median} |\pi|}\Big),

    and end points and root cells are where they are found in the long run, from any cell: where they are when they are
    stopped, at each step with the probability :math:`\epsilon`,

    .. math:: \mu^{\text{end}} = \epsilon \sum_{k \geq 0} (1 - \epsilon)^k \eta T^k, \qquad
              \mu^{\text{root}} = \epsilon \sum_{k \geq 0} (1 - \epsilon)^k \eta B^k, \qquad \eta_i = 1 / n .

    Each :math:`\mu` is cut off at its 2nd and 98th percentile, averaged over each cell and its nearest neighbours, cut
    off at the 98th percentile, and scaled to the range from 0 to 1. Where cells have several ends, each has a score by
    the share of the cells that come there.

    Parameters
    ----------
    adata
        Velocity graph in ``adata.uns``, nearest neighbours in ``adata.obsp["distances"]``.
    vkey
        Key of the velocity.
    groupby
        Key of groups in ``adata.obs``, each of which is a process by itself, with roots and ends of its own: what leads
        from one to another does not count. Only for lineages that have nothing to do with each other.
    groups
        Names of some of these groups: then one process of their cells together, of which ``groupby`` is the key (the
        clustering ``"clusters"`` or ``"louvain"`` if None).
    eps
        :math:`\epsilon`: what lasts longer than :math:`1 / \epsilon` steps counts as lasting. In scVelo, how far below
        1 an eigenvalue still counts as that of a stationary state, which is the same but for the sharp edge.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets ``.obs["root_cells"]`` and ``.obs["end_points"]``, from 0
        to 1; cells above 0.999 count as root cells and end points. All are 0 if no cell stands out. Cells of no group
        that was asked for keep the numbers that they have, or get 0.

    Raises
    ------
    KeyError
        If the velocity graph, the neighbours or the groups are missing.
    ValueError
        If they are those of other cells, or not finite, ``eps`` is out of range, or no group is there.
    ArithmeticError
        If the long run is not found.

    Notes
    -----
    Close to scVelo 0.3.4 where both processes have a row for each cell and one stationary state. What differs:

    1. scVelo adds up the left eigenvectors with eigenvalues from :math:`1 - \epsilon` on, each scaled to the same
       maximum. Where there are several, any mixture of them is one: rounding, another order of the cells or another
       number of threads brings about other roots and ends; and two cells that lead to each other count as much as all
       others together. Here the long run is one equation, of which a change of the correlations by
       :math:`\delta` changes the result by no more than a multiple of :math:`\delta / \epsilon`.
    2. In scVelo, :math:`\sigma` is 10. Smooth velocities have correlations so large that each step would be all but
       certain, and a few cells that are hard to leave the end of everything.
    3. A cell without correlations (a velocity without direction), and backward, one that no velocity graph's edge leads
       to, goes to each of its nearest neighbours with equal probability. In scVelo its row is empty, and what arrives
       there is lost. If that is enough to bring the largest eigenvalue below :math:`1 - \epsilon`, scVelo finds no root
       cell: so it is for the pancreas data (20 of 3,696 cells).
    4. A state that fewer than 2 % of the cells make up is not cut off; there, it is divided by zero.
    5. A cell without neighbours takes no part, with a warning, and is neither root cell nor end point.
    6. Groups work with any AnnData; in scVelo they need one that chooses the cells of ``adata.uns`` too.
    7. The checks against ``gene_count_corr`` are left out.

    References
    ----------
    Bergen et al. (2020), Methods: root cells and end points.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> jv.tl.terminal_states(adata)
    >>> adata.obs["clusters"][adata.obs["end_points"] > 0.5].unique().tolist()
    ['Fate B']
    """
    require_no_copy(require_anndata(adata), copy)
    if not is_number(eps) or not 0 < eps < 1:
        raise ValueError(f"Expected `eps` to be above 0 and below 1, found `{eps!r}`.")
    parts = parts_of(adata, groupby, groups)
    graph = read_velocity_graph(adata, vkey)
    states = find_terminal_states(read_nearest(adata, neighbors_key), vkey, graph, parts, eps)
    result = adata.copy() if copy else adata
    for key, scores in zip(("root_cells", "end_points"), states, strict=True):
        result.obs[key] = column_of(adata, key, parts, scores, otherwise=0.0)
    return result if copy else None


class Nearest(NamedTuple):
    """Pattern of the nearest neighbours, and the key in ``adata.obsp`` that they have."""

    neighbors: sp.csr_matrix
    key: str


def read_nearest(adata: AnnData, neighbors_key: str | None) -> Nearest:
    """Read the nearest neighbours."""
    neighbors = read_neighbors(adata, "distances", neighbors_key=neighbors_key)
    return Nearest(neighbors, graph_key(adata, "distances", neighbors_key))


def find_terminal_states(
    nearest: Nearest,
    vkey: str,
    graph: tuple[sp.csr_matrix, sp.csr_matrix],
    parts: list[Part],
    eps: float = STOP,
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """Score of each cell as root cell and as end point; see :func:`terminal_states`. Zero for cells of no part."""
    scores = np.zeros((2, nearest.neighbors.shape[0]))
    for part in parts:
        with timed(f"Computing terminal states of {vkey!r}{part.label}"):
            near = part.within(nearest.neighbors)
            warn_about_isolated(near, nearest.key, f"they are neither root cells nor end points{part.label}")
            positive, negative = (part.within(matrix) for matrix in graph)
            scores[:, part.cells] = _scores(near, _exponential(positive, negative), eps)
    return scores[0], scores[1]


def _scores(neighbors: sp.csr_matrix, weights: sp.csr_matrix, eps: float) -> Float[np.ndarray, "2 cells"]:
    """Scores as root cells and as end points of the chain with these weights."""
    scores = np.zeros((2, neighbors.shape[0]))
    cells = np.flatnonzero(np.diff(neighbors.indptr))
    if not len(cells):
        return scores
    neighbors, weights = (sp.csr_matrix(matrix[cells][:, cells]) for matrix in (neighbors, weights))
    nearest = _rows_to_one(neighbors)
    everywhere = np.full(len(cells), 1 / len(cells))
    for score, chain in zip(scores, (sp.csr_matrix(weights.T), weights), strict=True):
        score[cells] = _smoothed(stopped_distribution(_with_all_rows(chain, nearest), everywhere, eps), neighbors)
    return scores


def warn_about_other_roots(
    graph: tuple[sp.csr_matrix, sp.csr_matrix], neighborhoods: sp.csr_matrix, root: int, label: str
) -> None:
    """Tell if many cells come from elsewhere than around a root that was computed."""
    share = _share_from_elsewhere(graph, neighborhoods, root)
    if share > MOST_ELSEWHERE:
        logger.warning(
            "%.0f %% of the cells%s come from elsewhere than around the root cell: which one is the root is open. Name "
            "it as `root_key` if you know it.",
            100 * share,
            label,
        )


def _share_from_elsewhere(graph: tuple[sp.csr_matrix, sp.csr_matrix], neighborhoods: sp.csr_matrix, root: int) -> float:
    r"""Share of the cells that come from elsewhere than a root, the total variation :math:`|\mu - \mu^{(i)}| / 2`.

    :math:`\mu` is the long run of the process backward in time from any cell, :math:`\mu^{(i)}` that from the root.
    """
    chain = _with_all_rows(sp.csr_matrix(_exponential(*graph).T), neighborhoods)
    n_cells = chain.shape[0]
    starts = np.full(n_cells, 1 / n_cells), np.eye(1, n_cells, root)[0]
    of_all, of_one = (stopped_distribution(chain, start, STOP) for start in starts)
    return float(np.abs(of_all - of_one).sum() / 2)


def _exponential(positive: sp.csr_matrix, negative: sp.csr_matrix) -> sp.csr_matrix:
    """Exponentials of the scaled correlations, where there are some.

    Smooth velocities agree with the way to neighbours so well that each step would be all but certain, and a few cells
    that are hard to leave would be the end of everything: there, the scale is smaller.
    """
    weights = sp.csr_matrix(positive + negative, dtype=np.float64)
    typical = float(np.median(np.abs(weights.data))) if weights.nnz else 0.0
    weights.data = np.exp(min(SCALE, TYPICAL / max(typical, 1e-9)) * weights.data)
    return weights


def _with_all_rows(weights: sp.csr_matrix, nearest: sp.csr_matrix) -> sp.csr_matrix:
    """Stochastic matrix of the weights; rows without any are those of the nearest neighbours."""
    is_empty = (np.asarray(weights.sum(axis=1)).ravel() == 0).astype(float)
    return _rows_to_one(sp.csr_matrix(weights + sp.diags_array(is_empty) @ nearest))


def _rows_to_one(weights: sp.csr_matrix) -> sp.csr_matrix:
    """Divide each row by its sum; a row without entries stays at its cell."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    stays = (sums == 0).astype(float)
    return sp.csr_matrix(sp.diags_array(1 / np.where(sums == 0, 1, sums)) @ weights + sp.diags_array(stays))


def _smoothed(state: Float[np.ndarray, " cells"], neighbors: sp.csr_matrix) -> Float[np.ndarray, " cells"]:
    """A distribution without its extremes, averaged over neighbourhoods, from 0 to 1."""
    low, high = np.percentile(state, PERCENTILES)
    high = high if high > 0 else state.max()
    cut = np.where(state < low, 0, np.minimum(state, high)) / high
    neighborhoods = _rows_to_one(sp.csr_matrix(neighbors + sp.identity(neighbors.shape[0])))
    score = neighborhoods @ cut
    high = np.percentile(score, PERCENTILES[1])
    score = np.minimum(score, high) if high > 0 else score
    if np.ptp(score) <= ROUNDING * score.max():
        return np.zeros_like(score)
    score = score - score.min()
    return score / score.max()
