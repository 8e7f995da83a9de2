"""Sylvester equations with one large and one small matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

REFINEMENTS = 8
"""Largest number of times that what is missing is solved for."""
RELATIVE = 1e-10
"""Norm of the residual, relative to that of the right-hand side, of one solution by the iteration."""
MAX_STEPS = 1000
"""Largest number of products in one such iteration."""
DENSE_ROWS = 200
"""Up to this size a dense solver is as fast."""
DENSE_AT_LAST = 2000
"""Up to this size, what the iteration does not solve is solved by the dense solver, within a quarter of a minute."""


def solve_sylvester(
    product: Callable[[np.ndarray], np.ndarray],
    small: Float[np.ndarray, "k k"],
    right_side: Float[np.ndarray, "rows k"],
    tolerance: float,
) -> Float[np.ndarray, "rows k"]:
    r"""Solve :math:`A Y - Y S = B` by products with A, NaN where that fails.

    In the basis of the eigenvectors of S, the columns of Y part. Each is solved for by BiCGSTAB (van der Vorst 1992),
    all of them side by side. Eigenvectors that are badly conditioned cost digits, which come back by solving for what
    is missing, again and again.

    Parameters
    ----------
    product
        Multiplies by A, shape ``(rows, k)`` for any k. A and S have no eigenvalue in common.
    small
        The matrix S.
    right_side
        The matrix B.
    tolerance
        Norm of what may be missing in the end.
    """
    n_rows = len(right_side)
    if n_rows <= DENSE_ROWS:
        return _dense(product, small, right_side)
    values, basis = np.linalg.eig(small)
    inverse = np.linalg.pinv(basis, rcond=1e-13)
    kinds = [values.imag == 0, values.imag > 0]
    found, missing = np.zeros_like(right_side), right_side
    for _ in range(REFINEMENTS):
        norm = np.linalg.norm(missing)
        if norm <= tolerance:
            return found
        step = np.zeros_like(right_side)
        for weight, kind in zip((1, 2), kinds, strict=True):
            if kind.any():
                sides = missing @ basis[:, kind]
                own = values[kind]
                if weight == 1:
                    sides, own = sides.real, own.real
                enough = 0.01 * tolerance / (1 + np.linalg.norm(inverse[kind], axis=1))
                enough = np.maximum(enough, RELATIVE * _norms(sides))
                step += weight * (_bicgstab(product, own, np.ascontiguousarray(sides), enough) @ inverse[kind]).real
        left = right_side - (product(found + step) - (found + step) @ small)
        if not np.linalg.norm(left) < 0.5 * norm:
            break
        found, missing = found + step, left
    if np.linalg.norm(missing) <= tolerance:
        return found
    return _dense(product, small, right_side) if n_rows <= DENSE_AT_LAST else np.full(right_side.shape, np.nan)


def _dense(product, small: np.ndarray, right_side: np.ndarray) -> np.ndarray:
    return scipy.linalg.solve_sylvester(product(np.eye(len(right_side))), -small, right_side)


def _bicgstab(product, shifts: np.ndarray, sides: np.ndarray, enough: np.ndarray) -> np.ndarray:
    """Solve (A - shift) x = b for each column and its shift, until its residual is small enough; those are left out."""

    def left_side(x: np.ndarray) -> np.ndarray:
        together = np.ascontiguousarray(x).view(np.float64)
        return product(together).view(sides.dtype) - x * own

    found = np.zeros_like(sides)
    columns = np.flatnonzero(_norms(sides) > enough)
    own = shifts[columns]
    r = sides[:, columns]
    shadow, p, x = r, r, np.zeros_like(r)
    rho = _dots(shadow, r)
    for _ in range(MAX_STEPS // 2):
        if not len(columns):
            break
        v = left_side(p)
        alpha = _ratio(rho, _dots(shadow, v))
        half = r - alpha * v
        t = left_side(half)
        omega = _ratio(_dots(t, half), _dots(t, t))
        x = x + alpha * p + omega * half
        r = half - omega * t
        before, rho = rho, _dots(shadow, r)
        p = r + _ratio(rho, before) * _ratio(alpha, omega) * (p - omega * v)
        norms = _norms(r)
        done = (norms <= enough[columns]) | ~np.isfinite(norms) | (rho == 0)
        if done.any():
            finite = np.isfinite(norms)
            found[:, columns[done & finite]] = x[:, done & finite]
            go = ~done
            columns, own, rho = columns[go], own[go], rho[go]
            r, shadow, p, x = (np.ascontiguousarray(array[:, go]) for array in (r, shadow, p, x))
    found[:, columns] = x
    return found


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.einsum("rk,rk->k", x.conj(), y)


def _norms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(_dots(x, x).real)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """One for each column; zero where there is nothing left to do."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
