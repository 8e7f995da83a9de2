"""How Schur vectors change with the matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from jaxvelo.markov._krylov_schur import eigenvalues_of
from jaxvelo.markov._sylvester import solve_sylvester

ACCURACY = 1e-9
"""Norm of the residual of the Sylvester equation, relative to its causes."""
DISTINCT = 1e-8
"""Blocks of the Schur form whose eigenvalues differ by less are not told apart."""


class SubspaceChange:
    r"""First-order change of :math:`A V = V R`, :math:`V^\top V = 1`, as a linear function of its cause.

    With the cause :math:`C = \dot A V` and :math:`P = 1 - V V^\top`,

    .. math::
        P A Y - Y R = -P C, \quad P Y = Y, \qquad F = V^\top (C + A Y), \\
        \dot V = Y + V W, \qquad \dot R = F + R W - W R, \qquad W^\top = -W

    (Stewart & Sun 1990, chapter V). The subspace determines Y. W is the choice of a basis in it: that for which
    :math:`\dot R` is zero below the diagonal blocks, so that each leading part of V goes on to span an invariant
    subspace, and zero within the blocks. Where two blocks share their eigenvalues, a cut between them is no smooth
    function, and W is as small as it can be.

    Parameters
    ----------
    product, transposed_product
        Multiply by A and by its transpose, shape ``(rows, k)`` for any k.
    vectors
        Orthonormal columns V.
    form
        Quasi-triangular R.
    """

    def __init__(
        self,
        product: Callable[[np.ndarray], np.ndarray],
        transposed_product: Callable[[np.ndarray], np.ndarray],
        vectors: Float[np.ndarray, "rows k"],
        form: Float[np.ndarray, "k k"],
    ):
        self.product, self.transposed_product, self.vectors, self.form = product, transposed_product, vectors, form
        self.below: Bool[np.ndarray, "k k"] = below_blocks(form)

    def change(self, cause: Float[np.ndarray, "rows k"]) -> tuple[np.ndarray, np.ndarray]:
        """Changes of V and R."""
        v, r = self.vectors, self.form
        y = self._sylvester(self.product, r, -cause)
        f = v.T @ (cause + self.product(y))
        w = np.zeros_like(r)
        w[self.below] = -self._solve_basis(f[self.below], transposed=False)
        w = w - w.T
        change_of_form = f + r @ w - w @ r
        return y + v @ w, np.where(self.below, 0, change_of_form)

    def transposed(self, of_vectors: Float[np.ndarray, "rows k"], of_form: Float[np.ndarray, "k k"]) -> np.ndarray:
        """Transpose of :meth:`change`."""
        v, r = self.vectors, self.form
        of_f = np.where(self.below, 0, of_form)
        of_w = v.T @ of_vectors + r.T @ of_f - of_f @ r.T
        of_f[self.below] = -self._solve_basis((of_w - of_w.T)[self.below], transposed=True)
        of_y = of_vectors + self.transposed_product(v @ of_f)
        return v @ of_f - self._sylvester(self.transposed_product, r.T, of_y)

    def _outside(self, x: np.ndarray) -> np.ndarray:
        return x - self.vectors @ (self.vectors.T @ x)

    def _sylvester(self, product, small: np.ndarray, right_side: np.ndarray) -> np.ndarray:
        """Solve outside of the subspace; within it, A is replaced by a multiple of one far from all eigenvalues."""

        def apart(x: np.ndarray) -> np.ndarray:
            inside = self.vectors @ (self.vectors.T @ x)
            return self._outside(product(x - inside)) - 3 * inside

        tolerance = ACCURACY * float(np.linalg.norm(right_side))
        return self._outside(solve_sylvester(apart, small, self._outside(right_side), tolerance))

    def _solve_basis(self, right_side: np.ndarray, transposed: bool) -> np.ndarray:
        """Solve for the entries of W below the blocks: those of R W - W R."""
        r, (i, j) = self.form, np.nonzero(self.below)
        system = r[np.ix_(i, i)] * (j[:, None] == j) - (i[:, None] == i) * r[np.ix_(j, j)].T
        system = system.T if transposed else system
        if not len(i):
            return right_side
        values, block = eigenvalues_of(r), np.cumsum(np.append(True, np.diag(r, -1) == 0))
        apart = np.abs(values[:, None] - values)[block[:, None] != block]
        if apart.min() > DISTINCT:
            return np.linalg.solve(system, right_side)
        return np.linalg.lstsq(system, right_side, rcond=DISTINCT)[0]


def below_blocks(form: Float[np.ndarray, "k k"]) -> Bool[np.ndarray, "k k"]:
    """Which entries of a quasi-triangular matrix are zero."""
    below = np.tri(len(form), k=-1, dtype=bool)
    pairs = np.flatnonzero(np.diag(form, -1))
    below[pairs + 1, pairs] = False
    return below
