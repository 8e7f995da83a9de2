"""Distance from the root cells on the velocity graph, under scVelo's name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import check_integer, is_number
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.graphs import read_neighbor_graph
from jaxvelo.annotated.marked_cells import cell_at, highest_around, is_informative, number_at, score_at
from jaxvelo.annotated.parts import Part, column_of, parts_of
from jaxvelo.annotated.velocity_graph import read_velocity_graph
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.dynamics import diffusion_pseudotime, neighborhood_weights
from jaxvelo.graph import NeighborGraph
from jaxvelo.tl._terminal_states import find_terminal_states, read_nearest, warn_about_other_roots

POWER = 0.25
"""Of the correlations' magnitudes; chosen on simulated data with known times."""


@accepts_data
def velocity_pseudotime(
    adata: AnnData,
    vkey: str = "velocity",
    groupby: str | None = None,
    groups: str | Sequence[str] | None = None,
    *,
    root_key: str | int | None = None,
    end_key: str | int | None = None,
    n_dcs: int = 10,
    use_velocity_graph: bool = True,
    power: float = POWER,
    neighbors_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    r"""Order cells by their diffusion distance from a root cell on the velocity graph.

    The distance is that of :func:`jaxvelo.dynamics.diffusion_pseudotime` with the weights
    :math:`w_{ij} = |\pi_{ij}|^p` from the correlations of :func:`jaxvelo.tl.velocity_graph`. With an end
    point, it is averaged with one minus the distance from that, and scaled to the range from 0 to 1.

    The smaller the power :math:`p`, the more alike are all ways to cells around. What :math:`p = 1` makes hard are the
    steps across the velocities, so that cells beside each other come to lie far apart, the more so the smoother
    velocities are.

    Parameters
    ----------
    adata
        Velocity graph in ``adata.uns``, ``adata.obsp["connectivities"]``, and ``adata.obsp["distances"]`` where
        terminal states must be computed.
    vkey
        Key of the velocity.
    groupby
        Key of groups in ``adata.obs``, each of which is taken by itself, with a root of its own and pseudotimes from 0
        to 1. Only for lineages that have nothing to do with each other.
    groups
        Names of some of these groups: then their cells together and no others, of which ``groupby`` is the key (the
        clustering ``"clusters"`` or ``"louvain"`` if None).
    root_key, end_key
        Root cell and end point: the number or the name of a cell, or a key of ``adata.obs`` with a score; then it is
        the cell around which the score is highest, averaged over connected cells. If no root is given,
        ``"root_cells"``; without ``adata.obs["root_cells"]``, they are computed as :func:`jaxvelo.tl.terminal_states`
        does, also for a group in which the scores do not tell cells apart. Without ``end_key`` there is no end point:
        only where all cells end at one place does that say how late they are.
    n_dcs
        Number of diffusion components.
    use_velocity_graph
        Whether to walk on the velocity graph; otherwise on the connectivities, as they are.
    power
        :math:`p`, above 0. The order was closer to the true time with a quarter than with one on all of 23 simulated
        data sets.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets ``.obs[vkey + "_pseudotime"]``, from 0 to 1, and, where
        they were computed, ``.obs["root_cells"]`` and ``.obs["end_points"]``, of which none is replaced that marks some
        cells. Cells connected to neither root nor end have no pseudotime: they get NaN, with a warning that counts
        them; so do all cells of a group that the root is not in. Cells of no group that was asked for keep the numbers
        that they have, or get NaN.

    Raises
    ------
    KeyError
        If the velocity graph, neighbours, groups or a key are missing.
    ValueError
        If the graph is that of other cells, not finite, a score marks no cell, no group is there, or the root is in
        none of them.

    Notes
    -----
    With ``power=1`` equal to scVelo 0.3.4 on a connected graph for the same root and end, and to that of the cells of
    each group by themselves. There,

    1. ``"end_points"`` is taken where no end point is named. Cells of other branches are far from it, however late they
       are, and where there are several, rounding chooses one. ``end_key="end_points"`` takes it here;
    2. a root is taken however many there are. Here a warning tells if more than 10 % of the cells come from elsewhere;
    3. a key that does not exist gives NaN for all cells, here it is an error; groups after the first get NaN unless all
       have root cells already; a root's number counts among the cells of the group; and ``adata.obs["cell_fate"]`` is
       taken for the groups where it is there, which has to be said here.

    References
    ----------
    Haghverdi et al. (2016); Bergen et al. (2020), Methods.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> jv.tl.velocity_pseudotime(adata)
    >>> bool(adata.obs["velocity_pseudotime"].corr(adata.obs["true_time"]) > 0.7)
    True
    """
    require_no_copy(require_anndata(adata), copy)
    check_integer("n_dcs", n_dcs, 2)
    if not is_number(power) or not 0 < power < np.inf:
        raise ValueError(f"Expected `power` to be a positive number, found `{power!r}`.")
    parts = parts_of(adata, groupby, groups)
    connectivities = read_neighbor_graph(adata, "connectivities", neighbors_key)
    without = [part for part in parts if root_key is None and not has_score(adata, "root_cells", part=part)]
    graph = read_velocity_graph(adata, vkey) if use_velocity_graph or without else None
    states: dict[str, np.ndarray] = {}
    if graph is not None and without:
        computed = find_terminal_states(read_nearest(adata, neighbors_key), vkey, graph, without)
        for key, scores in zip(("root_cells", "end_points"), computed, strict=True):
            unmarked = [part for part in without if not has_score(adata, key, part=part)]
            if unmarked:
                states[key] = column_of(adata, key, unmarked, scores, otherwise=0.0)
        if "root_cells" in adata.obs:
            for part in without:
                logger.warning(
                    "`adata.obs['root_cells']` marks no cell%s: replacing it by root cells computed anew", part.label
                )
    is_open = root_key is None
    root_key = "root_cells" if root_key is None else root_key
    weights = magnitudes(*graph).power(power) if graph is not None and use_velocity_graph else connectivities
    pseudotime = np.full(adata.n_obs, np.nan)
    with timed("Computing velocity pseudotime"):
        roots = [_marked_in(part, adata, root_key, states, connectivities, "root_key") for part in parts]
        if all(root is None for root in roots):
            raise ValueError(
                f"Expected the root cell `root_key={root_key!r}` in one of the groups, found it in none. Choose other "
                "groups by `groups`, or another root."
            )
        for part, root in zip(parts, roots, strict=True):
            if root is None:
                logger.warning(
                    "No root cell by `root_key=%r` among the cells%s; their pseudotime is NaN", root_key, part.label
                )
                continue
            if graph is not None and is_open:
                inside = part.within(graph[0]), part.within(graph[1])
                warn_about_other_roots(inside, neighborhood_weights(part.within(connectivities)), root, part.label)
            end = None if end_key is None else _marked_in(part, adata, end_key, states, connectivities, "end_key")
            pseudotime[part.cells] = pseudotime_on(part.within(weights), root, end, n_dcs)
            missing = int(np.count_nonzero(np.isnan(pseudotime[part.cells])))
            if missing:
                logger.warning(
                    "%d cells%s are not connected to the root cell; their pseudotime is NaN. Take the parts of the "
                    "graph by themselves, or use more neighbours.",
                    missing,
                    part.label,
                )
    result = adata.copy() if copy else adata
    for key, score in states.items():
        result.obs[key] = score
    key = f"{vkey}_pseudotime"
    result.obs[key] = column_of(adata, key, parts, pseudotime, otherwise=np.nan)
    return result if copy else None


def _marked_in(
    part: Part,
    adata: AnnData,
    key: str | int,
    scores: dict[str, np.ndarray],
    connectivities: sp.csr_matrix,
    argument: str,
) -> int | None:
    """Number of a marked cell among those of a part; None if it is in another."""
    neighborhoods = neighborhood_weights(part.within(connectivities))
    if part.cells.all():
        return cell_at(adata, key, scores, neighborhoods, argument)
    score = score_at(adata, key, scores)
    if score is None:
        number = number_at(adata, key, argument)
        return int(np.count_nonzero(part.cells[:number])) if part.cells[number] else None
    return highest_around(score[part.cells], neighborhoods) if is_informative(score[part.cells]) else None


def has_score(adata: AnnData, key: str, scores: dict[str, np.ndarray] | None = None, part: Part | None = None) -> bool:
    """Whether there is a score under this key that sets some cells, of all or of a part, apart."""
    score = score_at(adata, key, scores or {})
    return score is not None and is_informative(score if part is None else score[part.cells])


def magnitudes(positive: sp.csr_matrix, negative: sp.csr_matrix) -> sp.csr_matrix:
    """Magnitudes of the correlations of a velocity graph."""
    return sp.csr_matrix(positive - negative)


def pseudotime_on(weights: sp.csr_matrix, root: int, end: int | None, n_components: int = 10) -> np.ndarray:
    """:func:`jaxvelo.dynamics.diffusion_pseudotime` of a sparse matrix."""
    graph = NeighborGraph.from_csr(weights)
    values = graph.edges["connectivities"].values
    return np.asarray(diffusion_pseudotime(graph, values, root, end, n_components), dtype=float)
