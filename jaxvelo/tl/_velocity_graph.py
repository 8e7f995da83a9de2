"""Correlation of velocities with the displacements to other cells, under scVelo's name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from jaxtyping import Array, Float

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.disk_arrays import require_no_copy
from jaxvelo.annotated.entries import require_anndata, stored_parameters
from jaxvelo.annotated.feature_data import FeatureData
from jaxvelo.annotated.graphs import graph_key
from jaxvelo.annotated.neighbors import read_neighbors, warn_about_isolated
from jaxvelo.annotated.velocity_arrows import SELF_TRANSITION_PERCENTILE
from jaxvelo.configuration import accepts_data, ignore_arguments, timed
from jaxvelo.graph import EdgeMatrix, NeighborGraph
from jaxvelo.tl._steps import within_steps
from jaxvelo.transitions import Velocity, evaluate_logits


@accepts_data
def velocity_graph(
    adata: AnnData,
    vkey: str = "velocity",
    xkey: str = "Ms",
    *,
    n_neighbors: int | None = None,
    n_recurse_neighbors: int | None = None,
    sqrt_transform: bool | None = None,
    gene_subset: str | Sequence[str] | np.ndarray | None = None,
    mode_neighbors: str = "distances",
    neighbors_key: str | None = None,
    copy: bool = False,
    n_jobs: Any = None,
    backend: Any = None,
    show_progress_bar: Any = None,
) -> AnnData | None:
    r"""Correlate velocities with the displacements to the cells around.

    .. math:: \pi_{ij} = \operatorname{corr}_g(x_{jg} - x_{ig}, v_{ig})

    is how well a move from cell :math:`i` to cell :math:`j` fits the velocity of :math:`i`. (Often called a cosine: it
    is the cosine of vectors centred over genes.) Cell :math:`j` runs over the nearest neighbours of :math:`i` and
    theirs.

    Parameters
    ----------
    adata
        Expression and velocity in ``adata.layers``, and neighbours in ``adata.obsp``.
    vkey, xkey
        Layers of velocity and expression.
    n_neighbors
        Take this many of the nearest neighbours; all that are stored if None.
    n_recurse_neighbors
        How many steps from neighbour to neighbour to look ahead. If None, 2; but 1 with ``n_neighbors``, or with
        ``mode_neighbors="connectivities"``.
    sqrt_transform
        Whether to take the signed square roots of displacements and velocities first, to stabilise their variance. If
        None, this is done for velocities of the stochastic model (by ``adata.uns[vkey + "_params"]["mode"]``).
    gene_subset
        Genes to use: key in ``adata.var``, mask or names. If None, ``adata.var[vkey + "_genes"]`` if there. Genes whose
        velocity is not finite in all cells are left out, with a warning.
    mode_neighbors
        ``"distances"``: nearest neighbours, directed. ``"connectivities"``: the connectivities' pattern, symmetric.
    neighbors_key
        Name of the neighbours in ``adata.uns``; None for ``"neighbors"``.
    copy
        Return a copy and leave ``adata`` as it is.
    n_jobs, backend, show_progress_bar
        Accepted for scripts written for scVelo; they do nothing.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself gets

        - ``.uns[vkey + "_graph"]``, ``.uns[vkey + "_graph_neg"]``: the positive and the negative correlations, CSR of
          shape (cells, cells);
        - ``.obs[vkey + "_self_transition"]``: how far the largest correlation of a cell is below that of the best
          cells (the 98th percentile), from 0 to 1;
        - ``.uns[vkey + "_params"]``: ``mode_neighbors`` and ``n_recurse_neighbors`` beside what was there.

    Raises
    ------
    KeyError
        If a layer or the neighbours are missing.
    ValueError
        If an argument is out of range, expression or neighbours are not finite, fewer than two genes remain, or no
        velocity has a direction.

    Notes
    -----
    Correlations equal those of scVelo 0.3.4 up to rounding. What differs:

    1. Where cells have different numbers of neighbours, scVelo cuts all down to the fewest; here all that are stored
       count. There, a cell without neighbours is an error; here it gets no correlations, with a warning.
    2. With ``mode_neighbors="connectivities"`` scVelo computes connectivities anew from the distances; here those in
       ``adata.obsp`` are taken.
    3. More neighbours than are stored are an error here; scVelo searches for neighbours anew.
    4. A missing layer is an error here; scVelo then computes velocities, or takes the spliced counts.
    5. ``approx`` (30 principal components), random subsets of neighbours and experimental time points are left out.

    A velocity or displacement without direction (zero, or equal for all genes) has correlation zero and, as all zeros,
    is not stored.

    References
    ----------
    Bergen et al. (2020), Methods: cosine similarities, eq. 8.

    Examples
    --------
    >>> jv.tl.velocity_graph(adata)
    >>> adata.uns["velocity_graph"].shape
    (150, 150)
    """
    require_no_copy(require_anndata(adata), copy)
    ignore_arguments(n_jobs=n_jobs, backend=backend, show_progress_bar=show_progress_bar)
    asked = read_directions(
        adata, vkey, xkey, n_neighbors, n_recurse_neighbors, sqrt_transform, gene_subset, mode_neighbors, neighbors_key
    )
    graph = correlations(asked)
    result = adata.copy() if copy else adata
    write_velocity_graph(result, vkey, graph)
    return result if copy else None


@dataclasses.dataclass(frozen=True)
class Directions:
    """What correlations are computed of.

    Attributes
    ----------
    vkey, xkey
        Layers of velocity and expression, for messages.
    features
        Expression and velocities on the genes that are used.
    neighbors
        Pattern of the neighbours.
    mode_neighbors, n_steps
        Which neighbours these are, and how many steps from neighbour to neighbour to look ahead.
    takes_roots
        Whether to take signed square roots first.
    """

    vkey: str
    xkey: str
    features: FeatureData
    neighbors: sp.csr_matrix
    mode_neighbors: str
    n_steps: int
    takes_roots: bool


class VelocityGraph(NamedTuple):
    """Positive and negative correlations, and the neighbours that they are of."""

    positive: sp.csr_matrix
    negative: sp.csr_matrix
    mode_neighbors: str
    n_steps: int


def read_directions(
    adata: AnnData,
    vkey: str,
    xkey: str = "Ms",
    n_neighbors: int | None = None,
    n_recurse_neighbors: int | None = None,
    sqrt_transform: bool | None = None,
    gene_subset: str | Sequence[str] | np.ndarray | None = None,
    mode_neighbors: str = "distances",
    neighbors_key: str | None = None,
) -> Directions:
    """Read what correlations are computed of; see :func:`velocity_graph`."""
    neighbors = read_neighbors(adata, mode_neighbors, n_neighbors, neighbors_key)
    if n_recurse_neighbors is None:
        n_recurse_neighbors = 1 if n_neighbors is not None or mode_neighbors == "connectivities" else 2
    check_integer("n_recurse_neighbors", n_recurse_neighbors, 1)
    if sqrt_transform is None:
        sqrt_transform = stored_parameters(adata, f"{vkey}_params").get("mode") == "stochastic"
    data = FeatureData(adata, "layers", xkey, vkey, gene_subset)
    warn_about_isolated(neighbors, graph_key(adata, mode_neighbors, neighbors_key), "they get no correlations")
    return Directions(vkey, xkey, data, neighbors, mode_neighbors, int(n_recurse_neighbors), bool(sqrt_transform))


def correlations(directions: Directions) -> VelocityGraph:
    """Correlate velocities with displacements; see :func:`velocity_graph`."""
    takes_roots = directions.takes_roots
    with timed("Computing the velocity graph"):
        graph = NeighborGraph.from_csr(within_steps(directions.neighbors, directions.n_steps))
        similarity = _correlation_of_roots if takes_roots else "correlation"
        features = directions.features.features(pad=not takes_roots)
        logits, _, _ = evaluate_logits(Velocity(similarity=similarity), graph, features)
        matrix = EdgeMatrix(graph, logits).to_csr().astype(np.dtype(jnp.result_type(float)))
    if not matrix.nnz:
        raise ValueError(
            f"Expected velocities in `adata.layers[{directions.vkey!r}]` and displacements in "
            f"`adata.layers[{directions.xkey!r}]` that have a direction, found none: all are zero, or equal for all "
            f"genes. Compute velocities anew, or mark other genes in `adata.var['{directions.vkey}_genes']`."
        )
    # Rounding may lead beyond one.
    positive, negative = _part(matrix, 0, 1), _part(matrix, -1, 0)
    return VelocityGraph(positive, negative, directions.mode_neighbors, directions.n_steps)


def write_velocity_graph(adata: AnnData, vkey: str, graph: VelocityGraph) -> None:
    """Store the results of :func:`correlations`."""
    largest = graph.positive.max(axis=1).toarray().ravel()
    best = np.percentile(largest, SELF_TRANSITION_PERCENTILE)
    parameters = {k: v for k, v in stored_parameters(adata, f"{vkey}_params").items() if k != "embeddings"}
    adata.uns[f"{vkey}_graph"], adata.uns[f"{vkey}_graph_neg"] = graph.positive, graph.negative
    adata.obs[f"{vkey}_self_transition"] = np.clip(best - largest, 0, 1)
    adata.uns[f"{vkey}_params"] = {
        **parameters,
        "mode_neighbors": graph.mode_neighbors,
        "n_recurse_neighbors": graph.n_steps,
    }


def _part(matrix: sp.csr_matrix, low: float, high: float) -> sp.csr_matrix:
    """Clip the values, and leave out those that become zero."""
    part = matrix.copy()
    part.data = np.clip(part.data, low, high)
    part.eliminate_zeros()
    return part


def _correlation_of_roots(
    v: Float[Array, " genes"], displacements: Float[Array, "neighbors genes"]
) -> Float[Array, " neighbors"]:
    """Correlation of the signed square roots; 0 where one of them has no direction."""
    v, delta = (_centred(jnp.sign(a) * jnp.sqrt(jnp.abs(a))) for a in (v, displacements))
    norms = jnp.sqrt(jnp.sum(delta * delta, axis=1)) * jnp.sqrt(jnp.sum(v * v))
    return jnp.where(norms > 0, delta @ v / jnp.where(norms > 0, norms, 1), 0)


def _centred(a: jax.Array) -> jax.Array:
    """Centre over genes; what rounding leaves of equal values becomes zero."""
    centred = a - jnp.mean(a, axis=-1, keepdims=True)
    size = jnp.max(jnp.abs(a), axis=-1, keepdims=True)
    return jnp.where(jnp.abs(centred) > 4 * jnp.finfo(a.dtype).eps * size, centred, 0)
