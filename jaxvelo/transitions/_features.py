"""Gene expression and velocity of the cells."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.graph import Halo


class Features(eqx.Module):
    """Gene expression and velocity of each cell.

    There may be more rows than cells: rows beyond the cells are never read.

    Attributes
    ----------
    x
        Gene expression, shape ``(cells, genes)``; log-normalised counts, or whatever the velocity is the change of.
    v
        Velocity in the same features, shape ``(cells, genes)``.
    n_genes
        Number of genes; columns beyond are padding and hold zeros. All columns if ``None``.
    halo
        Where the cells are, if expression and velocity are shared out to several devices: :attr:`x` and :attr:`v` are
        in the order of :meth:`Halo.place <jaxvelo.graph.Halo.place>` then. In the order of the cells if ``None``.

    Examples
    --------
    >>> features = jv.transitions.Features(x, v)
    >>> jv.transitions.Velocity()(graph, {"velocity": features}).shape, float(features.gene_count())
    ((150, 150), 40.0)
    """

    x: Float[Array, "cells genes"]
    v: Float[Array, "cells genes"]
    n_genes: Int[Array, ""] | None = None
    halo: Halo | None = None

    @classmethod
    def on_devices(
        cls, x: Any, v: Any, halo: Halo | None, n_genes: Int[Array | np.ndarray, ""] | None = None
    ) -> Features:
        """Share expression and velocity out to the devices of a halo.

        Parameters
        ----------
        x, v
            Expression and velocity in the order of the cells, shape ``(cells, genes)``. Of arrays on the host, no more
            is copied than the devices of this process get.
        halo
            Where the cells are, see :attr:`NeighborGraph.halo <jaxvelo.graph.NeighborGraph.halo>`; all stay together
            if ``None``.
        n_genes
            Number of genes; all columns if ``None``.

        Returns
        -------
        Features
            In the order of :meth:`Halo.place <jaxvelo.graph.Halo.place>`; of the cells without a halo.
        """
        place = jnp.asarray if halo is None else halo.place
        return cls(place(x), place(v), n_genes, halo)  # type: ignore[arg-type]

    def gene_count(self) -> Float[Array, ""]:
        """Number of genes without padding, as a float."""
        return jnp.asarray(self.x.shape[1] if self.n_genes is None else self.n_genes, self.x.dtype)

    def is_gene(self) -> Float[Array, " genes"]:
        """One for genes, zero for padding."""
        if self.n_genes is None:
            return jnp.ones(self.x.shape[1], self.x.dtype)
        return (jnp.arange(self.x.shape[1], dtype=self.n_genes.dtype) < self.n_genes).astype(self.x.dtype)
