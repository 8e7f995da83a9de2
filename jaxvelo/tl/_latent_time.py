"""Gene-shared latent time of the dynamical model, under scVelo's name."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata, require_key
from jaxvelo.annotated.fit_columns import read_times
from jaxvelo.annotated.graphs import graph_key, read_graph
from jaxvelo.annotated.marked_cells import cell_at, score_of
from jaxvelo.annotated.parts import Part
from jaxvelo.annotated.velocity_graph import has_velocity_graph, read_velocity_graph
from jaxvelo.configuration import accepts_data, logger, timed
from jaxvelo.dynamics import agreed_time, local_confidence, neighborhood_weights
from jaxvelo.dynamics import latent_time as latent_time_of_roots
from jaxvelo.tl._terminal_states import Nearest, find_terminal_states, read_nearest, warn_about_other_roots
from jaxvelo.tl._velocity_graph import (
    Directions,
    VelocityGraph,
    correlations,
    read_directions,
    write_velocity_graph,
)
from jaxvelo.tl._velocity_pseudotime import has_score, magnitudes, pseudotime_on

ROOT_KEYS = ("root_cells", "starting_cells", "root_states_probs")
MARKED = 1 - 1e-3
MOST_MARKED = 4
LATEST_ROOT = 0.4
"""A root that is given may be so late, as a share of the time, in the order that the genes agree on."""
ROUNDING = 1e-6  # of the weights of neighbourhoods, which are held in single precision


@accepts_data
def latent_time(
    adata: AnnData,
    vkey: str = "velocity",
    min_likelihood: float | None = 0.1,
    min_confidence: float = 0.75,
    min_corr_diffusion: float | None = None,
    weight_diffusion: float | None = None,
    root_key: str | None = None,
    end_key: str | None = None,
    t_max: float | None = None,
    copy: bool = False,
    *,
    n_iterations: int = 10,
    neighbors_key: str | None = None,
) -> AnnData | None:
    r"""Compute the latent time that all genes share, from the times that the dynamical model gives each gene.

    The times of each gene are set to zero at a root cell, and a low percentile over genes is the time of a cell:
    :func:`jaxvelo.dynamics.latent_time`, over up to four root cells, those that come first by the sum of their times.

    These times stay, but the cells take them in the order that the genes agree on. Each gene has a say by how well its
    clock, read by an increasing function, tells the order of the cells; clocks and order are brought into agreement by
    turns (:func:`jaxvelo.dynamics.agreed_time`). Of two first orders, that of the times above and that of the diffusion
    distance from the first root cell over the neighbour graph, the one counts in the end on which the genes agree more.

    Then times :math:`T_i` that disagree with their neighbourhood (:func:`jaxvelo.dynamics.local_confidence` below
    ``min_confidence``) are left out, and the rest is averaged,

    .. math:: T_i \leftarrow \operatorname{scale} \sum_{j \in N_i^+} \frac{[c_j \geq c_{\min}]}{|N_i^+|} T_j, \qquad
              N_i^+ = N_i \cup \{i\},

    with the neighbours :math:`N_i` of positive connectivity. With a weight :math:`w` of the diffusion pseudotime
    :math:`P` (:func:`jaxvelo.tl.velocity_pseudotime` with ``power=1``), instead
    :math:`T_i \leftarrow \operatorname{scale}((1 - w) T_i + w P_i)`, and :math:`P_i` alone where they disagree.

    Parameters
    ----------
    adata
        Results of ``jaxvelo.tl.recover_dynamics``: times of each gene in ``adata.layers["fit_t"]``, likelihoods in
        ``adata.var["fit_likelihood"]``; ``adata.obsp["connectivities"]``; and what :func:`jaxvelo.tl.velocity_graph`
        and :func:`jaxvelo.tl.terminal_states` need or have written.
    vkey
        Key of the velocity.
    min_likelihood
        Genes with a smaller likelihood are left out; None for none. Genes without a fit, or whose times are not all
        finite, are always left out.
    min_confidence
        Least agreement of a cell's time with its neighbourhood, from 0 to 1.
    min_corr_diffusion
        Leave out genes whose time correlates less than this with the diffusion pseudotime; None for none.
    weight_diffusion
        Weight of the diffusion pseudotime, from 0 to 1; None for the average over neighbourhoods.
    root_key
        Key of ``adata.obs`` with scores or labels of root cells (those with a score above 0.999 or any label), or of
        ``adata.uns`` with the number or name of one root cell. If None, the first that is there of ``"root_cells"``,
        ``"starting_cells"`` and ``"root_states_probs"``; root cells are computed otherwise.
    end_key
        Key of ``adata.obs`` with scores or labels of end points, that are then taken into account too; None for none.
    t_max
        Time of the last cell, in a unit of your choice; None for 1.
    copy
        Return a copy and leave ``adata`` as it is.
    n_iterations
        How often clocks and order are brought into agreement; 0 for the order of the percentiles, as in scVelo. That is
        also kept, with a warning, if a root that is given comes after 40 % of the time in the other one.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets ``.obs["latent_time"]``, from 0 to 1 (or ``t_max``). What
        was missing and had to be computed is written as well: the velocity graph as by
        :func:`jaxvelo.tl.velocity_graph`, ``.obs["root_cells"]`` and ``.obs["end_points"]``. None of these is
        replaced that marks some cells.

    Raises
    ------
    KeyError
        If the fit, a graph or a key is missing.
    ValueError
        If no gene remains, the time does not vary, data are those of other cells or not finite, or an argument is out
        of range.

    Notes
    -----
    With ``n_iterations=0`` equal to scVelo 0.3.4 for the same root cells and a connected graph: to 1e-8 in double
    precision; in single to about a hundredth, as rounding may take a gene's time across that of the root, from one end
    of its circle to the other. What differs:

    1. Root cells: see :func:`jaxvelo.tl.terminal_states`.
    2. If the velocity graph is missing, scVelo computes it on 30 principal components; here it is that of all genes.
    3. A key that does not exist is an error; scVelo takes another.
    4. The pseudotime is computed where it is used only, and is not written.
    5. The pseudotime has an end point only if there is ``end_key``, see :func:`jaxvelo.tl.velocity_pseudotime`.
    6. A cell that the pseudotime does not reach keeps its latent time; one all of whose neighbourhood disagrees keeps
       the average over all of it. There, these become NaN and 0.

    References
    ----------
    Bergen et al. (2020), Methods, gene-shared latent time.

    Examples
    --------
    >>> jv.tl.velocity_graph(fitted)
    >>> jv.tl.latent_time(fitted)
    >>> bool(fitted.obs["latent_time"].corr(fitted.obs["true_time"]) > 0.5)
    True
    """
    require_no_copy(require_anndata(adata), copy)
    check_integer("n_iterations", n_iterations, 0)
    options = _Options(min_likelihood, min_confidence, min_corr_diffusion, weight_diffusion, t_max, n_iterations)
    found = _computed(_read(adata, vkey, root_key, end_key, neighbors_key, options), options)
    result = adata.copy() if copy else adata
    if found.graph is not None:
        write_velocity_graph(result, vkey, found.graph)
    for key, score in found.scores.items():
        result.obs[key] = score
    result.obs["latent_time"] = found.time
    return result if copy else None


@dataclasses.dataclass(frozen=True)
class _Options:
    """What the user asks for."""

    min_likelihood: float | None
    min_confidence: float
    min_corr_diffusion: float | None
    weight_diffusion: float | None
    t_max: float | None
    n_iterations: int

    def __post_init__(self) -> None:
        ranges = {
            "min_likelihood": (0, np.inf),
            "min_confidence": (0, 1),
            "min_corr_diffusion": (-1, 1),
            "weight_diffusion": (0, 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is None and name != "min_confidence":
                continue
            if not is_number(value) or not low <= value <= high:
                raise ValueError(f"Expected `{name}` to be from {low} to {high}, found `{value!r}`.")
        if self.t_max is not None and (not is_number(self.t_max) or not 0 < self.t_max < np.inf):
            raise ValueError(f"Expected `t_max` to be positive, found `{self.t_max!r}`.")

    @property
    def uses_diffusion(self) -> bool:
        """Whether the diffusion pseudotime is used."""
        return self.min_corr_diffusion is not None or self.weight_diffusion is not None


class _Marked(NamedTuple):
    """Root cells or end points: by the score of each cell, or by the number of one; and the key that says so."""

    key: str
    score: Float[np.ndarray, " cells"] | None = None
    cell: int | None = None


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What is read of the cells.

    Attributes
    ----------
    times
        Times of the genes with a fit that is good enough, of shape (cells, genes).
    neighborhoods, conn_key
        Weights of the mean over each cell and its neighbours, and the key of their graph.
    vkey
        Key of the velocity.
    roots
        Root cells; None if they must be computed.
    ends
        End points that the user named, if any.
    has_ends
        Whether there are end points that set some cells apart.
    graph
        Velocity graph that is stored; None if there is none, or it is not needed.
    directions
        What the velocity graph is computed of where it is needed and not there.
    nearest
        Nearest neighbours, where root cells must be computed.
    """

    times: Float[np.ndarray, "cells genes"]
    neighborhoods: sp.csr_matrix
    conn_key: str
    vkey: str
    roots: _Marked | None
    ends: _Marked | None
    has_ends: bool
    graph: tuple[sp.csr_matrix, sp.csr_matrix] | None
    directions: Directions | None
    nearest: Nearest | None


@dataclasses.dataclass(frozen=True)
class _Found:
    """What is written: the latent time, and what was missing and had to be computed."""

    time: Float[np.ndarray, " cells"]
    scores: dict[str, Float[np.ndarray, " cells"]]
    graph: VelocityGraph | None


def _read(
    adata: AnnData, vkey: str, root_key: str | None, end_key: str | None, neighbors_key: str | None, options: _Options
) -> _Inputs:
    times = read_times(adata, options.min_likelihood)
    conn_key = graph_key(adata, "connectivities", neighbors_key)
    neighborhoods = neighborhood_weights(read_graph(adata, conn_key))
    ends = None
    if end_key is not None:
        remedy = "Pass the key of a score or a label as `end_key`, or None."
        ends = _Marked(end_key, score_of(require_key(adata.obs, end_key, "adata.obs", remedy)))
    roots = _roots(adata, root_key, neighborhoods)
    needs_graph = roots is None or options.uses_diffusion
    graph, directions = None, None
    if needs_graph and has_velocity_graph(adata, vkey):
        graph = read_velocity_graph(adata, vkey)
    elif needs_graph:
        directions = read_directions(adata, vkey, neighbors_key=neighbors_key)
    return _Inputs(
        times,
        neighborhoods,
        conn_key,
        vkey,
        roots,
        ends,
        has_score(adata, "end_points"),
        graph,
        directions,
        read_nearest(adata, neighbors_key) if roots is None else None,
    )


def _computed(inputs: _Inputs, options: _Options) -> _Found:
    graph: tuple[sp.csr_matrix, sp.csr_matrix] | None = inputs.graph
    computed = None
    if inputs.directions is not None:
        computed = correlations(inputs.directions)
        graph = computed.positive, computed.negative
    roots = inputs.roots
    scores: dict[str, np.ndarray] = {}
    if inputs.nearest is not None and graph is not None:
        everywhere = [Part(np.ones(len(inputs.times), dtype=bool), None)]
        scores["root_cells"], ends = find_terminal_states(inputs.nearest, inputs.vkey, graph, everywhere)
        roots = _Marked("root_cells", scores["root_cells"])
        if not inputs.has_ends:
            scores["end_points"] = ends
    assert roots is not None

    with timed(f"Computing latent time with {roots.key!r} as prior"):
        times = inputs.times
        order = np.argsort(times.sum(axis=1), kind="stable")
        first = _first_marked(roots, order, "root cells")
        if "root_cells" in scores and graph is not None:
            warn_about_other_roots(graph, inputs.neighborhoods, int(first[0]), "")
        last = None if inputs.ends is None else _first_marked(inputs.ends, order[::-1], "end points")
        pseudotime = None
        if options.uses_diffusion and graph is not None:
            pseudotime = pseudotime_on(magnitudes(*graph), int(first[0]), None if last is None else int(last[0]))
            if options.min_corr_diffusion is not None:
                times = _correlated(times, pseudotime, options.min_corr_diffusion)
        # The default floating type: float32, or float64 if the user has enabled it.
        latent = latent_time_of_roots(
            jnp.asarray(times, dtype=float), jnp.asarray(first), None if last is None else jnp.asarray(last)
        )
        latent = np.asarray(latent, dtype=np.float64)
        if not latent.max() > 0:
            raise ValueError(
                f"Expected times in `adata.layers['fit_t']` that vary among cells, found none that do after the root "
                f"cell {first[0]}. Choose other root cells, or a lower `min_likelihood`."
            )
        if options.n_iterations:
            is_known = "root_cells" not in scores
            latent = _in_agreed_order(
                latent, times, inputs.neighborhoods, int(first[0]), options.n_iterations, is_known
            )
        latent = _with_neighbors(
            latent, inputs.neighborhoods, options.min_confidence, pseudotime, options.weight_diffusion
        )
        if np.ptp(latent) <= ROUNDING * latent.max():
            raise ValueError(
                f"Expected latent times that differ after averaging over `adata.obsp[{inputs.conn_key!r}]`, found that "
                "all are the same: every cell is connected to every other. Use fewer neighbours."
            )
        latent = latent - latent.min()
        latent *= (1.0 if options.t_max is None else options.t_max) / latent.max()
    return _Found(latent, scores, computed)


def _roots(adata: AnnData, root_key: str | None, neighborhoods: sp.csr_matrix) -> _Marked | None:
    """Return the root cells, or None if they must be computed."""
    if root_key is None:
        root_key = next((key for key in ROOT_KEYS if key in adata.obs), None)
        if root_key is None:
            return None
    if root_key in adata.obs:
        return _Marked(root_key, score_of(require_key(adata.obs, root_key, "adata.obs", "")))
    if root_key in adata.uns:
        where = f"adata.uns[{root_key!r}]"
        return _Marked(root_key, cell=cell_at(adata, adata.uns[root_key], {}, neighborhoods, where))
    raise KeyError(
        f"Expected `root_key` in `adata.obs` or `adata.uns`, found `{root_key!r}`. There are {listed(adata.obs)} and "
        f"{listed(adata.uns)}. Without `root_key`, root cells are computed."
    )


def _first_marked(marks: _Marked, order: Int[np.ndarray, " cells"], what: str) -> Int[np.ndarray, " marked"]:
    """The first few cells in the given order that a score marks; of all cells if it marks none."""
    if marks.score is None:
        return np.array([marks.cell])
    marked = order[marks.score[order] > MARKED]
    if not len(marked):
        logger.warning(
            "Found no %s: no cell has a score above %g in `adata.obs[%r]`. Taking the cells with the extreme sums of "
            "times; name cells to improve the latent time.",
            what,
            MARKED,
            marks.key,
        )
        marked = order
    return marked[:MOST_MARKED]


def _correlated(times: np.ndarray, pseudotime: np.ndarray, least: float) -> np.ndarray:
    """Times of the genes that correlate with the pseudotime, over the cells that have one."""
    known = np.isfinite(pseudotime)
    t, p = times[known] - times[known].mean(axis=0), pseudotime[known] - pseudotime[known].mean()
    norms = np.sqrt(np.sum(t**2, axis=0) * np.sum(p**2))
    correlation = np.where(norms > 0, p @ t / np.where(norms > 0, norms, 1), 0)
    if not (correlation >= least).any():
        raise ValueError(
            f"Expected genes whose times correlate with the diffusion pseudotime by at least `min_corr_diffusion` = "
            f"{least}, found none (largest {correlation.max():.3g}). Choose a lower one."
        )
    return times[:, correlation >= least]


def _in_agreed_order(
    latent: np.ndarray,
    times: np.ndarray,
    neighborhoods: sp.csr_matrix,
    root: int,
    n_iterations: int,
    root_is_known: bool,
) -> np.ndarray:
    """The same times, in the order that the genes agree on, unless they contradict a root that is known."""
    distance = pseudotime_on(neighborhoods, root, None)
    starts = latent, np.where(np.isfinite(distance), distance, latent)
    found = [agreed_time(times, start, neighborhoods, n_iterations) for start in starts]
    order = max(found, key=lambda one: one.precision).order
    # Cells that are alike in the order stay so.
    agreed = np.interp(order, (np.arange(len(latent)) + 0.5) / len(latent), np.sort(latent))
    place = (agreed[root] - agreed.min()) / max(np.ptp(agreed), ROUNDING)
    if root_is_known and place > LATEST_ROOT:
        logger.warning(
            "The genes agree on an order in which the root cell comes late (at %.0f %% of the time). It is not taken, "
            "as the root is given: mark another root, or none, if that is not known.",
            100 * place,
        )
        return latent
    return agreed


def _with_neighbors(
    latent: np.ndarray,
    neighborhoods: sp.csr_matrix,
    min_confidence: float,
    pseudotime: np.ndarray | None,
    weight: float | None,
) -> np.ndarray:
    """Make good for times that disagree with their neighbourhood."""
    mean = neighborhoods @ latent
    agrees = np.asarray(local_confidence(jnp.asarray(latent, dtype=float), jnp.asarray(mean, dtype=float)))
    agrees = agrees >= min_confidence
    if weight is not None and pseudotime is not None:
        coupled = np.where(agrees, (1 - weight) * latent + weight * pseudotime, pseudotime)
        return np.where(np.isfinite(pseudotime), coupled, latent)
    # As scVelo: the weights of those left out are not made up for by the others.
    return np.where(neighborhoods @ agrees.astype(float) > 0, neighborhoods @ (agrees * latent), mean)
