"""Transition probabilities between time points, and among the cells of one."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxvelo.graph import Edges
from jaxvelo.transitions._fixed_logits import FixedProbabilities
from jaxvelo.transitions._transition_function import TransitionFunction, normalized


class RealTime(TransitionFunction):
    r"""Couplings :math:`K` to later time points, and steps :math:`W` among the cells of one.

    .. math:: T_{ij} \propto (1 - w) K_{ij} + w W_{ij}

    Where a cell has only one of the two, the weight is without effect. Rows without any become uniform over their edges
    (Schiebinger et al. 2019; Lange et al. 2024).

    Parameters
    ----------
    conn_weight
        :math:`w`, between 0 and 1; ``None`` where no cell has both.
    transport, within
        Names of the graph's edges with :math:`K` and :math:`W`; the attributes are :attr:`transport_name` and
        :attr:`within_name`.

    Attributes
    ----------
    logit_conn_weight
        :math:`\log(w / (1 - w))`, a leaf, or ``None``.

    Examples
    --------
    >>> later, within = sp.csr_matrix([[0.0, 0.0, 1.0]] * 3), sp.csr_matrix([[0.5, 0.5, 0.0]] * 3)
    >>> days = jv.graph.NeighborGraph.from_csr({"transport": later, "within": within})
    >>> jv.transitions.RealTime(conn_weight=0.2)(days).rows(0).round(6).tolist()
    [[0.1, 0.1, 0.8]]
    """

    free: ClassVar[tuple[str, ...]] = ("logit_conn_weight",)

    logit_conn_weight: Float[Array, ""] | None
    transport_name: str = eqx.field(static=True)
    within_name: str = eqx.field(static=True)

    def __init__(self, conn_weight: ArrayLike | None = None, *, transport: str = "transport", within: str = "within"):
        weight = None if conn_weight is None else jnp.asarray(conn_weight, dtype=float)
        self.logit_conn_weight = None if weight is None else jnp.log(weight) - jnp.log1p(-weight)
        self.transport_name = transport
        self.within_name = within

    def probabilities(self, pattern, edges, data, key):
        """Weighted mean of couplings and steps, rows normalised."""
        transport, within = self._parts(edges)
        logit = jnp.zeros(()) if self.logit_conn_weight is None else self.logit_conn_weight
        values = [
            jax.nn.sigmoid(-logit).astype(k.dtype) * k + jax.nn.sigmoid(logit).astype(w.dtype) * w
            for k, w in zip(transport.values, within.values, strict=True)
        ]
        return normalized(pattern, tuple(values), self._mask(edges))

    def reads(self):
        """The couplings and the steps."""
        return frozenset((self.transport_name, self.within_name))

    def fix(self, graph, data, name):
        """All of it, unless there is a weight that may be fitted."""
        if self.logit_conn_weight is not None:
            return None
        return FixedProbabilities(name), Edges(self(graph).values, self._mask(graph.edges))

    def _parts(self, edges) -> tuple[Edges, Edges]:
        return edges[self.transport_name], edges[self.within_name]

    def _mask(self, edges):
        transport, within = self._parts(edges)
        return tuple(k | w for k, w in zip(transport.mask, within.mask, strict=True))
