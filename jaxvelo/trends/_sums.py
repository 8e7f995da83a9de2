"""What a penalised fit needs to know of all cells: sums over them, some cells at a time, for all genes at once."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from jaxvelo.graph._buckets import next_size
from jaxvelo.graph._precision import full_precision
from jaxvelo.trends._basis import spline_basis

BLOCK = 2**24
"""Numbers of an array of cells by genes, at most: 64 MB in single precision."""

FARTHEST = 25.0
"""Logarithm of the largest ratio of expected counts to a gene's mean; beyond it the exponential overflows."""


GENES = 2048
"""Genes that are fitted at a time: matrices of all coefficients of a curve take 2 MB each for ten of them."""


def genes_at_a_time(values: Any) -> Iterator[Any]:
    """Give all cells of some genes, one part after another."""
    n_genes = values.shape[1]
    for start in range(0, n_genes, GENES):
        yield values if n_genes <= GENES else values[:, start : start + GENES]


class Sums(NamedTuple):
    r"""Sums over cells of one curve, for all genes, in double precision.

    With the basis :math:`B_i` and the weight :math:`w_i` of a cell, the working weight
    :math:`q_i = w_i (d\mu/d\eta)^2 / V(\mu)` and the score :math:`s_i = w_i (d\mu/d\eta) (y_i - \mu_i) / V(\mu_i)`:

    Attributes
    ----------
    gram
        :math:`\sum q_i B_i B_i^\top`; one for all genes if expression is normal.
    score
        :math:`\sum s_i B_i`.
    meat
        :math:`\sum s_i^2 B_i B_i^\top`.
    pearson
        :math:`\sum w_i (y_i - \mu_i)^2 / V(\mu_i)`.
    pearson_slope
        Minus the derivative of that with respect to the dispersion.
    """

    gram: Float[np.ndarray, "genes_or_1 n_knots n_knots"]
    score: Float[np.ndarray, "genes n_knots"]
    meat: Float[np.ndarray, "genes n_knots n_knots"]
    pearson: Float[np.ndarray, " genes"]
    pearson_slope: Float[np.ndarray, " genes"]

    def of(self, genes: Bool[np.ndarray, " genes"]) -> "Sums":
        """Those of some genes, whose Gram matrices are their own."""
        return Sums(*(array[genes] for array in self))


class Cells:
    r"""Expression of cells, and the times and basis of curves through it.

    Parameters
    ----------
    values
        Expression, dense or sparse in rows.
    offset
        Logarithm of the size factors; zero if expression is normal.
    base
        What each gene's curve is counted from: its mean, or the logarithm of its mean count at size factor 1.
    n_knots, spline_order
        The basis.
    counts
        Whether expression is counts, with variance :math:`\mu + \alpha \mu^2` and the logarithm as link; otherwise
        it is normal.
    """

    def __init__(
        self,
        values: np.ndarray | sp.csr_matrix | sp.csr_array,
        offset: Float[np.ndarray, " cells"],
        base: Float[np.ndarray, " genes"],
        n_knots: int,
        spline_order: int,
        counts: bool,
    ):
        self.values, self.offset, self.base = values, offset, base
        self.n_knots, self.spline_order, self.counts = n_knots, spline_order, counts

    def of(self, genes: Bool[np.ndarray, " genes"]) -> "Cells":
        """The same cells with some of the genes."""
        values, base = self.values[:, np.flatnonzero(genes)], self.base[genes]
        return Cells(values, self.offset, base, self.n_knots, self.spline_order, self.counts)

    def sums(
        self,
        places: Float[np.ndarray, "curves cells"],
        weights: Float[np.ndarray, "curves cells"],
        coefficients: Float[np.ndarray, "curves genes n_knots"],
        dispersion: Float[np.ndarray, "curves genes"],
        shares: Float[np.ndarray, "curves cells"] | None = None,
        means: Float[np.ndarray, "curves genes_or_1 n_knots"] | None = None,
    ) -> list[Sums]:
        r"""Go through all cells once, and return the sums of each curve.

        Parameters
        ----------
        places
            Times of the cells, as parts of each curve's range.
        weights
            Weights of the cells; a cell without weight does not count.
        coefficients
            Coefficients of the curves, beside ``base``.
        dispersion
            Dispersion :math:`\alpha` of counts.
        shares, means
            Of the cells, and coefficients of their means along the time: scores are multiplied by what a cell's share
            is beside the mean.
        """
        dtype = np.dtype(jnp.result_type(float))
        n_genes, n_curves = self.values.shape[1], len(places)
        n_padded = next_size(n_genes, steps=16 if n_genes > 64 else 1)
        widen = [(0, n_padded - n_genes)]
        base = jnp.asarray(np.pad(self.base, widen), dtype)
        curves = [jnp.asarray(np.pad(c, [*widen, (0, 0)]), dtype) for c in coefficients]
        spread = [jnp.asarray(np.pad(d, widen), dtype) for d in dispersion]
        around: list[Any] = [None] * n_curves
        if means is not None:
            pad = [widen[0] if means.shape[1] > 1 else (0, 0), (0, 0)]
            around = [jnp.asarray(np.pad(m, pad), dtype) for m in means]
        totals: list[Any] = [None] * n_curves
        static = {"n_knots": self.n_knots, "spline_order": self.spline_order, "counts": self.counts}
        for rows, block in self._blocks(n_padded, dtype):
            missing = [(0, len(block) - (rows.stop - rows.start))]
            offset = jnp.asarray(np.pad(self.offset[rows], missing), dtype)
            on_device = jnp.asarray(block)
            for curve in range(n_curves):
                if totals[curve] is not None and not weights[curve, rows].any():
                    continue
                place, weight = (jnp.asarray(np.pad(of[curve, rows], missing), dtype) for of in (places, weights))
                share = None if shares is None else jnp.asarray(np.pad(shares[curve, rows], missing), dtype)
                found = _block_sums(
                    *(on_device, place, weight, offset, base, curves[curve], spread[curve], share, around[curve]),
                    **static,
                )
                found = [np.asarray(array, np.float64) for array in found]
                totals[curve] = found if totals[curve] is None else list(map(np.add, totals[curve], found))
        return [self._named(total, n_genes) for total in totals]

    def _blocks(self, n_padded: int, dtype: np.dtype) -> Iterator[tuple[slice, np.ndarray]]:
        """Dense rows, padded by zeros to one shape."""
        n_cells, n_genes = self.values.shape
        n_rows = min(next_size(n_cells), max(BLOCK // n_padded, 1))
        for start in range(0, n_cells, n_rows):
            rows = slice(start, min(start + n_rows, n_cells))
            some: Any = self.values[rows]
            block = np.zeros((n_rows, n_padded), dtype)
            block[: rows.stop - start, :n_genes] = some.toarray() if sp.issparse(some) else some
            yield rows, block

    def _named(self, total: list[np.ndarray], n_genes: int) -> Sums:
        gram, score, meat, pearson, slope = (array[..., :n_genes] if array.shape[-1] > 1 else array for array in total)
        return Sums(self._square(gram), score.T, self._square(meat), pearson, slope)

    def _square(self, banded: Float[np.ndarray, "products genes"]) -> Float[np.ndarray, "genes n_knots n_knots"]:
        """Symmetric matrices of their products above the diagonal."""
        first, second = _overlapping(self.n_knots, self.spline_order)
        square = np.zeros((banded.shape[1], self.n_knots, self.n_knots))
        square[:, first, second] = square[:, second, first] = banded.T
        return square


def _overlapping(n_knots: int, spline_order: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of functions that are not zero at the same places, each once."""
    first, second = np.triu_indices(n_knots)
    near = second - first <= spline_order
    return first[near], second[near]


@partial(jax.jit, static_argnames=("n_knots", "spline_order", "counts"))
@full_precision
def _block_sums(
    values, place, weight, offset, base, coefficients, dispersion, share, mean_share, *, n_knots, spline_order, counts
):
    basis = spline_basis(place, n_knots, spline_order)
    first, second = _overlapping(n_knots, spline_order)
    products = (basis[:, first] * basis[:, second]).T
    curve = basis @ coefficients.T
    weight = weight[:, None]
    beside = jnp.ones((), values.dtype) if share is None else share[:, None] - basis @ mean_share.T
    if counts:
        mean = jnp.exp(offset[:, None] + base[None] + jnp.clip(curve, -FARTHEST, FARTHEST))
        shrink = 1 / (1 + dispersion[None] * mean)
        working = weight * mean * shrink
        residual = values - mean
        score = weight * residual * shrink
        squares = score * residual
        # Where nothing is expected, nothing is found: cells that only pad, and ends of curves that fall steeply.
        pearson = squares / jnp.maximum(mean, jnp.finfo(mean.dtype).tiny)
        score = score * beside
        return products @ working, basis.T @ score, products @ score**2, pearson.sum(0), (squares * shrink).sum(0)
    residual = values - base[None] - curve
    score = weight * residual
    gram = products @ weight
    pearson = (score * residual).sum(0)
    score = score * beside
    return gram, basis.T @ score, products @ score**2, pearson, jnp.zeros_like(pearson)
