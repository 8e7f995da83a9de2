"""A kernel of one's own: steps to neighbours whose score is higher."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from anndata import AnnData
from jaxtyping import Array, Bool, Float

from jaxvelo.annotated.entries import read_numbers, require_anndata
from jaxvelo.configuration import timed
from jaxvelo.kernels import NeighborKernel
from jaxvelo.transitions import TransitionFunction


class Uphill(TransitionFunction):
    r"""Connectivities :math:`C_{ij}`, more of them to cells of a higher score :math:`s`.

    .. math:: T_{ij} \propto C_{ij}\, e^{b (s_j - s_i)}

    Of a cell all of whose weights are zero, the edges count alike; a cell without edges stays where it is.

    Parameters
    ----------
    b
        :math:`b`, positive, in units of one over the score's.
    score
        Name of the score in the data, shape ``(cells,)``; the attribute is :attr:`score_name`.
    edges
        Name of the graph's edges to use; the attribute is :attr:`edges_name`.

    Attributes
    ----------
    log_b
        :math:`\log b`, a leaf.
    """

    free: ClassVar[tuple[str, ...]] = ("log_b",)

    log_b: Float[Array, ""]
    score_name: str = eqx.field(static=True)
    edges_name: str = eqx.field(static=True)

    def __init__(self, b: float, score: str = "score", edges: str = "connectivities"):
        self.log_b = jnp.log(jnp.asarray(b, dtype=float))
        self.score_name = score
        self.edges_name = edges

    def probabilities(self, pattern, edges, data, key):
        """Probabilities of each bucket's slots."""
        own, score = edges[self.edges_name], data[self.score_name]
        buckets = []
        for rows, columns, weights, mask in zip(pattern.rows, pattern.columns, own.values, own.mask, strict=True):
            slope = jnp.exp(self.log_b).astype(weights.dtype)
            climbed = (score[columns] - score[rows][:, None]).astype(weights.dtype)
            logits = slope * climbed + jnp.log(jnp.where(weights > 0, weights, 1))
            buckets.append(jax.nn.softmax(logits, axis=1, where=_allowed(weights, mask)))
        return tuple(buckets)

    def reads(self):
        """The edges and the score."""
        return frozenset((self.edges_name, self.score_name))


def _allowed(weights: Float[Array, "rows width"], mask: Bool[Array, "rows width"]) -> Bool[Array, "rows width"]:
    """Where a step may go: along edges with weight, or along all, or, without any, to the cell itself."""
    # Padding points to the row's own cell: in a row without edges, that is what the first slot holds.
    itself = jnp.arange(mask.shape[1])[None] == 0
    edges = jnp.where(jnp.any(mask, axis=1, keepdims=True), mask, itself)
    heavy = mask & (weights > 0)
    return jnp.where(jnp.any(heavy, axis=1, keepdims=True), heavy, edges)


class UphillKernel(NeighborKernel):
    """Kernel of similarities among cells that prefers cells of a higher score.

    Parameters
    ----------
    adata
        Annotated data with neighbours and a score.
    score_key
        Column of the score in ``adata.obs``.
    conn_key
        Key of the neighbour graph in ``adata.obsp``.

    Raises
    ------
    KeyError
        If there is no such column or graph.
    ValueError
        If a score is missing or not finite.
    """

    def __init__(self, adata: AnnData, score_key: str, conn_key: str = "connectivities"):
        require_anndata(adata)
        super().__init__(adata, {"score_key": score_key, "conn_key": conn_key}, conn_key)
        self._score_key = score_key
        self._score = read_numbers(adata.obs, score_key, "adata.obs", "Pass the key of a score of each cell.")
        n_bad = np.count_nonzero(~np.isfinite(self._score))
        if n_bad:
            raise ValueError(
                f"Expected a finite score of each cell in `adata.obs[{score_key!r}]`, found {n_bad} cells without. "
                "Remove these cells, or compute their scores."
            )

    def compute_transition_matrix(self, b: float = 5.0) -> Self:
        """Compute the transition matrix.

        Parameters
        ----------
        b
            How much a higher score counts; see :class:`Uphill`.

        Returns
        -------
        The kernel, with :attr:`transition_matrix` and :attr:`params` updated.

        Raises
        ------
        ValueError
            If ``b`` is not positive and finite.
        """
        if not (np.isfinite(b) and b > 0):
            raise ValueError(f"Expected `b` to be positive and finite, found `{b!r}`.")
        with timed(f"Computing transition matrix based on `adata.obs[{self._score_key!r}]`"):
            params = {"b": float(b)}
            self.set_transitions(self._transition_function(params)(self.graph, self.features), params)
        return self

    @property
    def backward(self) -> bool:
        """Forward."""
        return False

    @property
    def features(self) -> dict[str, Any]:
        """The score, by name."""
        return {self._score_name: jnp.asarray(self._score, dtype=float)}

    @property
    def transition_function(self) -> Uphill:
        """The pure transition function with the parameters in use; not computed yet, with the default."""
        return self._transition_function(self.params)

    def with_numbers(self, numbers) -> Self:
        """Return a copy with another value of ``b``, computed."""
        return self.copy().compute_transition_matrix(**numbers)

    @property
    def _score_name(self) -> str:
        # With the key: two kernels of different scores can then be combined.
        return f"score {self._score_key}"

    def _transition_function(self, params: dict[str, Any]) -> Uphill:
        return Uphill(params.get("b", 5.0), self._score_name, self.conn_key)
