"""Leading real Schur vectors of a large matrix, from products with it: the Krylov-Schur iteration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Complex, Float
from scipy.linalg.lapack import dtrexc

from jaxvelo.markov._row_ranges import on_ranges, ranges_of

Largest = Literal["real", "magnitude"]

DENSE_ROWS = 200
"""Up to this size a dense solver is as fast, and has no iteration that might fail."""
DENSE_AT_LAST = 2000
"""Up to this size, what the iteration does not find is found by the dense solver, within a quarter of a minute."""
MAX_RESTARTS = 200
"""After so many cuts, the iteration gives up."""
CONVERGED = 1e-12
"""Residual of a wanted Schur vector of norm one, for a matrix whose products are of the size of their arguments."""
NOTICED = 1e-8
"""Residual at which the first eigenvalue that is not wanted is known well enough to tell how far away it is."""
SURELY_SMALLER = 0.01
"""Residual of that eigenvalue, relative to how far away it is, at which the iteration may end after a while."""
DISTINCT = 1e-8
"""Difference between eigenvalues that is more than the error of a badly conditioned one."""
ROUNDING = 8 * float(np.finfo(np.float64).eps)
CHUNK = 2048
"""So many columns of the basis are worked on at a time: they fit into the cache, and BLAS has no threads for so few."""
ROTATED = 64
"""The same for products with matrices."""


class LeadingSchur(NamedTuple):
    """An invariant subspace: ``matrix @ vectors.T = vectors.T @ schur_form``.

    Attributes
    ----------
    vectors
        Orthonormal rows, shape (found, rows).
    schur_form
        Quasi-triangular, shape (found, found), its eigenvalues falling in what is to be large.
    eigenvalues
        Those of its diagonal blocks, shape (found,).
    next_eigenvalue
        The largest one that is left out; NaN if none is.
    """

    vectors: Float[np.ndarray, "found rows"]
    schur_form: Float[np.ndarray, "found found"]
    eigenvalues: Complex[np.ndarray, " found"]
    next_eigenvalue: complex


class NotConverged(ArithmeticError):
    """Not all of the wanted vectors were found.

    Attributes
    ----------
    found
        Those that were.
    """

    def __init__(self, found: LeadingSchur):
        super().__init__(f"{len(found.vectors)} vectors")
        self.found = found


def leading_schur(
    product: Callable[[np.ndarray], np.ndarray],
    unchanged: Float[np.ndarray, "given rows"],
    count: int,
    largest: Largest,
    max_restarts: int | None = None,
) -> LeadingSchur:
    r"""Real Schur vectors of the largest eigenvalues of a matrix A, of which the first ones are known.

    A Krylov-Schur iteration in real arithmetic (Stewart 2001): the Arnoldi relation :math:`A V = V B + v b^\top` is
    brought to the ordered real Schur form of B, cut, and continued. No eigenvector is formed, so that equal, nearly
    equal and defective eigenvalues do no harm.

    One start vector leads to one vector only for an eigenvalue with several. So, with what was found set aside, the
    iteration begins again from another one, until the largest eigenvalue of the rest is smaller than all that were
    found. That one tells how wide the gap is.

    Parameters
    ----------
    product
        Multiplies a vector by the matrix.
    unchanged
        Orthonormal eigenvectors of the eigenvalue one, which is the largest, at most ``count``. The first one stays the
        first Schur vector; the more of them are given, the fewer are left to find one after the other.
    count
        Number of vectors, at most the number of rows; one more where that splits a pair of conjugate eigenvalues.
    largest
        What is to be large: the real part or the magnitude.
    max_restarts
        Largest number of cuts, :data:`MAX_RESTARTS` if ``None``.

    Raises
    ------
    NotConverged
        After so many cuts.

    References
    ----------
    Stewart (2001), A Krylov-Schur algorithm for large eigenproblems, SIAM J. Matrix Anal. Appl. 23:601.
    """
    n_rows = unchanged.shape[1]
    room = count + max(count, 40)
    if n_rows <= max(DENSE_ROWS, 2 * room):
        return _dense(product, unchanged[0], count, largest)
    try:
        cuts = MAX_RESTARTS if max_restarts is None else max_restarts
        return _iterate(product, unchanged, count, largest, room, cuts)
    except NotConverged:
        if n_rows > DENSE_AT_LAST:
            raise
    return _dense(product, unchanged[0], count, largest)


def _iterate(
    product: Callable[[np.ndarray], np.ndarray],
    unchanged: Float[np.ndarray, "given rows"],
    count: int,
    largest: Largest,
    room: int,
    max_restarts: int,
) -> LeadingSchur:
    random = np.random.default_rng(0)
    known, next_eigenvalue = len(unchanged), complex(np.nan)
    basis = np.empty((room + 1, unchanged.shape[1]))
    basis[:known] = unchanged
    form = np.zeros((room + 1, room))
    form[:known, :known] = np.eye(known)
    restarts = restarts_before = 0
    while True:
        # Vectors `known` to `kept` are the approximate ones, behind those that are set aside.
        kept = known
        _fresh_direction(basis, kept, random)
        floor = size_of(eigenvalues_of(form[:known, :known])[-1:], largest)[0] if known >= count else -np.inf
        while True:
            _expand(product, basis, form, kept, random)
            active = slice(known, room)
            schur_form, rotation = ordered_schur(form[active, active], largest)
            left_over = form[room, active] @ rotation
            values = eigenvalues_of(schur_form)
            n_good = _n_leading(np.abs(left_over) <= CONVERGED, values)
            if known < count:
                wanted = _whole_pairs(values, count - known)
            else:
                wanted = int(np.count_nonzero(size_of(values, largest) > floor + DISTINCT))
            is_done = n_good >= wanted if wanted else np.abs(left_over[: 1 + (values[0].imag != 0)]).max() <= NOTICED
            restarts += 1
            if not wanted and restarts > 2 * restarts_before + 5:
                # Far from what was found, eigenvalues may lie so dense that none is known well.
                off = float(np.abs(left_over[:2]).max())
                is_done = is_done or off < SURELY_SMALLER * (floor - size_of(values[:1], largest)[0])
            if not is_done and restarts >= max_restarts:
                good = min(n_good, max(count - known, 0))
                good -= int(good > 0 and values[good - 1].imag > 0)
                _rotate(basis[known:room], rotation[:, :good])
                form[:known, known : known + good] = form[:known, active] @ rotation[:, :good]
                form[known : known + good, known : known + good] = schur_form[:good, :good]
                found = form[: known + good, : known + good].copy()
                raise NotConverged(LeadingSchur(basis[: known + good], found, eigenvalues_of(found), complex(np.nan)))
            n_active = room - known
            keep = wanted if is_done else _whole_pairs(values, min(wanted, n_active) + (n_active - wanted) // 2)
            keep = keep if keep < n_active else _whole_pairs(values, n_active - 2)
            kept = known + keep
            _rotate(basis[known:room], rotation[:, :keep])
            form[:known, known:kept] = form[:known, active] @ rotation[:, :keep]
            form[known:kept, known:kept] = schur_form[:keep, :keep]
            basis[kept] = basis[room]
            form[kept:], form[:, kept:] = 0, 0
            if is_done:
                break
            form[kept, known:kept] = left_over[:keep]
        if not wanted:
            next_eigenvalue = complex(values[0])
            break
        was_first_round, known, restarts_before = known < count, kept, restarts
        if not was_first_round:
            # More vectors of the same size: all in order, and the last ones go.
            inner, rotation = ordered_schur(form[1:known, 1:known], largest)
            keep = _whole_pairs(eigenvalues_of(inner), count - 1)
            _rotate(basis[1:known], rotation[:, :keep])
            form[0, 1 : keep + 1] = form[0, 1:known] @ rotation[:, :keep]
            form[1 : keep + 1, 1 : keep + 1] = inner[:keep, :keep]
            known = keep + 1
            form[known:], form[:, known:] = 0, 0
    schur_form = form[:known, :known].copy()
    return LeadingSchur(basis[:known], schur_form, eigenvalues_of(schur_form), next_eigenvalue)


def _dense(product, first, count: int, largest: Largest) -> LeadingSchur:
    n_rows = len(first)
    # A reflection that brings the first unit vector to the known one.
    mirror = first.copy()
    mirror[0] += np.copysign(1, first[0])
    basis = np.eye(n_rows) - np.outer(mirror, mirror) * (2 / (mirror @ mirror))
    basis[0] = first
    form = basis @ np.stack([product(row) for row in basis], axis=1)
    inner, rotation = ordered_schur(form[1:, 1:], largest)
    values = np.append(1, eigenvalues_of(inner))
    found = _whole_pairs(values, count)
    rotation = rotation[:, : found - 1]
    vectors = np.vstack([first, rotation.T @ basis[1:]])
    schur_form = np.zeros((found, found))
    schur_form[0, 0] = 1
    schur_form[0, 1:] = form[0, 1:] @ rotation
    schur_form[1:, 1:] = inner[: found - 1, : found - 1]
    next_eigenvalue = complex(values[found]) if found < n_rows else complex(np.nan)
    return LeadingSchur(vectors, schur_form, eigenvalues_of(schur_form), next_eigenvalue)


def ordered_schur(matrix: Float[np.ndarray, "n n"], largest: Largest) -> tuple[np.ndarray, np.ndarray]:
    """Real Schur form with falling eigenvalues, and the rotation Q with ``matrix = Q @ form @ Q.T``."""
    form, rotation = scipy.linalg.schur(matrix)
    n_rows, place = len(matrix), 0
    while place < n_rows:
        sizes = size_of(eigenvalues_of(form), largest)
        begins = np.append(True, np.diag(form, -1) == 0)
        begins[:place] = False
        best = int(np.argmax(np.where(begins, sizes, -np.inf)))
        if best != place and sizes[best] > sizes[place]:
            form, rotation, info = dtrexc(form, rotation, best + 1, place + 1)
            if info:  # too close to be told apart: their order does not matter
                pass
        place += 2 if place + 1 < n_rows and form[place + 1, place] != 0 else 1
    return form, rotation


def eigenvalues_of(form: Float[np.ndarray, "n n"]) -> Complex[np.ndarray, " n"]:
    """Eigenvalues of a real Schur form whose pairs stand in blocks with equal numbers on the diagonal."""
    values = np.diag(form).astype(complex)
    below = np.diag(form, -1)
    for i in np.flatnonzero(below):
        height = np.sqrt(np.abs(below[i])) * np.sqrt(np.abs(form[i, i + 1]))
        values[i] += 1j * height
        values[i + 1] -= 1j * height
    return values


def size_of(values: Complex[np.ndarray, " n"], largest: Largest) -> Float[np.ndarray, " n"]:
    """What is to be large."""
    return values.real if largest == "real" else np.abs(values)


def _whole_pairs(values: Complex[np.ndarray, " n"], count: int) -> int:
    """The number of leading eigenvalues, one more if it would split a pair."""
    count = min(count, len(values))
    return count + int(count > 0 and values[count - 1].imag > 0)


def _n_leading(good: np.ndarray, values: Complex[np.ndarray, " n"]) -> int:
    """How many of the first ones are good, without half of a pair."""
    n_good = len(good) if good.all() else int(np.argmin(good))
    return n_good - int(n_good > 0 and values[n_good - 1].imag > 0)


def _expand(product, basis: np.ndarray, form: np.ndarray, start: int, random: np.random.Generator) -> None:
    """Fill the basis with Arnoldi steps."""
    for j in range(start, len(basis) - 1):
        new = product(basis[j])
        size = norm_of(new)
        form[: j + 1, j], norm = _orthogonalize(new, basis[: j + 1])
        if norm <= ROUNDING * max(size, 1.0):  # the basis is invariant: go on elsewhere
            form[j + 1, j] = 0
            _fresh_direction(basis, j + 1, random)
        else:
            form[j + 1, j] = norm
            np.divide(new, norm, out=basis[j + 1])


def _fresh_direction(basis: np.ndarray, n_before: int, random: np.random.Generator) -> None:
    new = basis[n_before]
    new[:] = random.normal(size=len(new))
    for _ in range(2):
        new /= _orthogonalize(new, basis[:n_before])[1]


def _orthogonalize(new: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, float]:
    """Take the parts along the basis out of a vector, in place and twice; gives these parts, and the norm of the rest.

    All that is done with a few columns is done while they are in the cache. On so few, BLAS has no threads of its own,
    which would wait for each other where other programs occupy the processor cores: then, a product of the whole basis
    with a vector takes five times as long.
    """
    ranges = ranges_of(len(new))

    def chunks(columns: slice) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for begin in range(columns.start, columns.stop, CHUNK):
            chunk = slice(begin, min(begin + CHUNK, columns.stop))
            yield new[chunk], basis[:, chunk]

    def parts_along(columns: slice) -> np.ndarray:
        found = np.zeros(len(basis))
        for part, block in chunks(columns):
            found += block @ part
        return found

    def take_out_and_again(columns: slice) -> np.ndarray:
        found = np.zeros(len(basis))
        for part, block in chunks(columns):
            part -= first @ block
            found += block @ part
        return found

    def take_out(columns: slice) -> float:
        square = 0.0
        for part, block in chunks(columns):
            part -= second @ block
            square += float(part @ part)
        return square

    first = np.sum(on_ranges(parts_along, ranges), axis=0)
    second = np.sum(on_ranges(take_out_and_again, ranges), axis=0)
    square = sum(on_ranges(take_out, ranges))
    return first + second, math.sqrt(square)


def norm_of(x: np.ndarray) -> float:
    """Without BLAS, see :func:`_orthogonalize`."""
    return math.sqrt(np.einsum("r,r->", x, x))


def _rotate(basis: np.ndarray, rotation: np.ndarray) -> None:
    """Replace the first rows by their combinations with all others, in place."""
    n_new = rotation.shape[1]

    def rotate(columns: slice) -> None:
        for begin in range(columns.start, columns.stop, ROTATED):
            part = basis[:, begin : min(begin + ROTATED, columns.stop)]
            part[:n_new] = rotation.T @ part

    on_ranges(rotate, ranges_of(basis.shape[1]))
