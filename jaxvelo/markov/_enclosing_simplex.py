r"""The simplex around a cloud of points whose memberships are the crispest: its faces are faces of the cloud's hull."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

ROUNDING = 1e-9
"""Largest violation of an inequality that counts as none; memberships are of the order one."""
STEEPNESS = 1e-10
"""A function that changes by less along a direction of unit length counts as constant along it."""
DIRECTIONS = 128
"""How many random directions, besides the axes, find the first cells that may lie on a face."""
SMALLEST_GAIN = 1e-6
"""Relative to the crispness, an improvement that counts."""
EMPTY = 1e-4
"""A state to which no cell belongs so much is none."""
IDLE = 150
"""The search ends after so many corners without an improvement."""


def enclosing_simplex(points: Float[np.ndarray, "cells dim"], effort: int) -> Int[np.ndarray, "faces dim"]:
    r"""Cells on the faces of the simplex around all cells that gives the crispest memberships.

    Non-negative functions :math:`1 + y_i \cdot s` of the cells' coordinates :math:`y_i` are a polytope of vectors
    :math:`s`, whose corners are the faces of the convex hull of the cells: a corner's function is zero on the cells of
    its face. Memberships :math:`\chi_{ij} = w_j (1 + y_i \cdot s_j)` are non-negative and sum to one if each
    :math:`s_j` lies in the polytope, :math:`w_j \geq 0`, :math:`\sum_j w_j = 1` and :math:`\sum_j w_j s_j = 0`; their
    crispness, the mean self-overlap, is :math:`\sum_j w_j (1 + |s_j|^2) / m`. That is linear in the weights and convex
    in the :math:`s_j`. So the crispest memberships are found among the corners, and they solve a linear programme with
    one variable for each corner.

    Here it is solved by generation of columns. The simplex method keeps m corners, and prices; by these, what a further
    corner promises is a convex function of :math:`s`. It is sought among the neighbours, along the polytope's edges, of
    the corners that promise most, best first. Where there are few corners, all are looked at, and the optimum is the
    global one, unless states would be almost empty or almost the same; otherwise a search ends where many corners in a
    row bring nothing, and the better of two is taken. The same cells in another order give the same simplex.

    Few cells lie on a face of the hull. The search knows only such ones; each corner that it takes is checked on all
    cells, and cells on which the function is negative are added.

    Parameters
    ----------
    points
        The cells' coordinates: with weighted mean zero, weighted covariance the identity.
    effort
        Of so many corners the neighbours are looked at, at most, in each search.

    Returns
    -------
    numpy.ndarray
        The cells of each face, of shape (dim + 1, dim).

    Raises
    ------
    ArithmeticError
        If the cells lie in a space of a lower dimension, or fit fewer states better.

    References
    ----------
    Gilmore & Gomory (1961) for the generation of columns; Harris (1973) for the choice among almost equal steps.
    """
    found = []
    for rule in RULES:
        simplex, is_best = _search(points, effort, rule)
        found.append(simplex)
        if is_best:
            break
    best = max(found, key=lambda simplex: simplex.prices[0])
    if best.peaks.min() < EMPTY:
        raise ArithmeticError("The crispest memberships leave a state without cells.")
    return best.corners.faces[best.basis]


class _Rule(NamedTuple):
    """Which improvements are taken: of two searches by different rules, now one ends better, now the other."""

    wanted_peak: float
    """Improvements after which some cell belongs at least so much to each state go before others."""
    least_peak: float
    """Nor are any taken after which no cell belongs so much to a state, unless that was so before."""
    similar: float
    """Two states whose memberships have a larger cosine are one; the chain of such states would have huge entries."""


RULES = _Rule(0.1, 0.02, 0.95), _Rule(0.01, 0.01, 0.98)


def _search(points: np.ndarray, effort: int, rule: _Rule) -> tuple[_Simplex, bool]:
    """The simplex that a search ends with, and whether all corners have been looked at."""
    corners = _Corners(points)
    simplex = _Simplex(corners, rule)
    simplex.start()
    idle = 0
    while corners.n_expanded < effort and idle < IDLE:
        promise = corners.promise(simplex.prices)
        best = simplex.choose(promise)
        if best < 0:
            idle += 1
            promise[corners.expanded[: len(promise)]] = -np.inf
            unseen = [corner for corner in simplex.basis if not corners.expanded[corner]]
            best = unseen[0] if unseen else int(promise.argmax())
            if not np.isfinite(promise[best]):
                return simplex, True
            corners.expand(best)
        elif corners.confirm(best):
            idle = 0
            simplex.enter(best)
            corners.expand(best)
    return simplex, False


def inner_simplex(points: Float[np.ndarray, "cells dim"]) -> Int[np.ndarray, " corners"]:
    """Cells at the corners of a large simplex: the farthest from zero, then always the farthest from those before."""
    cells = [int(np.linalg.norm(points, axis=1).argmax())]
    rest = points - points[cells[0]]
    for _ in range(points.shape[1]):
        distance = np.linalg.norm(rest, axis=1)
        cells.append(int(distance.argmax()))
        axis = rest[cells[-1]] / max(distance[cells[-1]], np.finfo(float).tiny)
        rest = rest - np.outer(rest @ axis, axis)
    return np.array(cells, dtype=np.int32)


class _Simplex:
    """The basis of the linear programme: as many corners as states, with zero in their convex hull."""

    def __init__(self, corners: _Corners, rule: _Rule) -> None:
        self.corners = corners
        self.rule = rule
        self.columns = corners.inner_simplex()
        self.size = len(self.columns)
        self.basis = np.full(self.size, -1)
        self._invert()

    def _invert(self) -> None:
        self.inverse = np.linalg.inv(self.columns)
        self.lengths = np.linalg.norm(self.columns, axis=1)
        self.weights = np.maximum(self.inverse[0], 0)
        self.prices = self.inverse @ (self.columns**2).sum(axis=1)

    @property
    def peaks(self) -> np.ndarray:
        """Largest membership in each state."""
        return self.weights * self.corners.peaks[self.basis]

    def start(self) -> None:
        """Replace the points of an inner simplex by corners: from each, one that promises more is always reached."""
        random = np.random.default_rng(0)
        turn = 0.0
        while (self.basis < 0).any():
            n_known = len(self.corners.cells)
            point = self.columns[self.basis.argmin(), 1:]
            corner = self.corners.walk(point, self.prices[1:] + turn * random.standard_normal(self.size - 1))
            promises = corner >= 0 and self.corners.promise(self.prices)[corner] > -SMALLEST_GAIN * self.prices[0]
            if promises and self.corners.confirm(corner):
                self.enter(corner)
                turn = 0.0
            elif len(self.corners.cells) == n_known:
                turn = turn + 1 if turn else 1e-3
            if turn > IDLE:
                raise ArithmeticError("No simplex around the cells was found.")

    def choose(self, promise: np.ndarray) -> int:
        """The corner that brings most, rather one that leaves each state a cell; -1 if there is none."""
        enough = SMALLEST_GAIN * self.prices[0]
        choices = np.flatnonzero(promise > enough)
        if not len(choices):
            return -1
        leaves, steps, changes = self._exchange(choices)
        of_basis = self.corners.peaks[self.basis]
        peaks = (self.weights[:, None] - steps * changes) * of_basis[:, None]
        peaks[leaves, np.arange(len(choices))] = steps * self.corners.peaks[choices]
        lowest = peaks.min(axis=0)
        gain = promise[choices] * steps
        apart = self._similarity(choices, leaves) <= self.rule.similar
        for floor in (self.rule.wanted_peak, self.rule.least_peak):
            allowed = apart & (lowest >= min(floor, self.peaks.min())) & (gain > 0.1 * enough)
            if allowed.any():
                return int(choices[np.where(allowed, gain, -1.0).argmax()])
        return -1

    def _similarity(self, entering: np.ndarray, leaves: np.ndarray) -> np.ndarray:
        """Largest cosine of the memberships in a corner and in those that stay."""
        columns = self.corners.columns[entering]
        cosines = (columns / np.linalg.norm(columns, axis=1)[:, None]) @ (self.columns / self.lengths[:, None]).T
        cosines[np.arange(len(entering)), leaves] = 0
        return cosines.max(axis=1)

    def enter(self, corner: int) -> None:
        """Take a corner into the basis, for the one whose weight then vanishes first."""
        leaves, _, _ = self._exchange(np.array([corner]))
        self.basis[leaves[0]], self.columns[leaves[0]] = corner, self.corners.columns[corner]
        self._invert()

    def _exchange(self, entering: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        changes = (self.corners.columns[entering] @ self.inverse).T
        falls = changes > 1e-9
        steps = np.where(falls, self.weights[:, None] / np.where(falls, changes, 1), np.inf)
        return steps.argmin(axis=0), steps.min(axis=0), changes


class _Corners:
    """Corners of the polytope of non-negative functions: those seen so far, and how to come from one to the next."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        self.n_cells, self.dim = points.shape
        self.place = np.full(self.n_cells, -1)
        self.cells = np.empty(0, dtype=np.int64)
        self.outer = np.empty((0, self.dim))
        self._take(self._outermost())
        self.n_seen = 0
        self.columns = np.empty((0, self.dim + 1))
        self.values = np.empty(0)
        self.peaks = np.empty(0)
        self.faces = np.empty((0, self.dim), dtype=np.int64)
        self.parents = np.empty(0, dtype=np.int64)
        self.expanded = np.empty(0, dtype=bool)
        self.number: dict[bytes, int] = {}
        self.n_expanded = 0

    def _outermost(self) -> np.ndarray:
        random = np.random.default_rng(0).standard_normal((DIRECTIONS, self.dim))
        directions = np.concatenate([np.eye(self.dim), -np.eye(self.dim), random])
        return np.unique([(self.points @ direction).argmin() for direction in directions])

    def _take(self, cells: np.ndarray) -> None:
        self.place[cells] = np.arange(len(self.cells), len(self.cells) + len(cells))
        self.cells = np.concatenate([self.cells, cells])
        self.outer = np.concatenate([self.outer, self.points[cells]])

    def _add(self, face: np.ndarray, s: np.ndarray, peak: float, parent: int) -> int:
        face = np.sort(face)
        key = face.tobytes()
        if key in self.number:
            return self.number[key]
        new = self.number[key] = self.n_seen
        if new == len(self.values):
            for name in ("columns", "values", "peaks", "faces", "parents", "expanded"):
                known = getattr(self, name)
                setattr(self, name, np.concatenate([known, np.zeros((max(1000, new), *known.shape[1:]), known.dtype)]))
        self.n_seen += 1
        self.columns[new, 0] = 1
        self._place(new, s, peak)
        self.faces[new] = face
        self.parents[new] = parent
        return new

    def _place(self, corner: int, s: np.ndarray, peak: float) -> None:
        self.columns[corner, 1:] = s
        self.values[corner] = 1 + s @ s
        self.peaks[corner] = peak

    def promise(self, prices: np.ndarray) -> np.ndarray:
        """By how much each corner's value exceeds the price of its column."""
        return self.values[: self.n_seen] - self.columns[: self.n_seen] @ prices

    def confirm(self, corner: int) -> bool:
        """Whether a corner's function is negative on no cell; if it is, such cells are added, its parent reopened."""
        s = _zero_on(self.points[self.faces[corner]])
        if s is None:
            self.values[corner] = -np.inf
            return False
        function = 1 + self.points @ s
        if function.min() >= -ROUNDING:
            self._place(corner, s, function.max())
            return True
        self.values[corner] = -np.inf
        worst = np.argpartition(function, min(10, self.n_cells - 1))[:10]
        new = worst[(function[worst] < -ROUNDING) & (self.place[worst] < 0)]
        if len(new):
            self._take(new)
            self.expanded[self.parents[corner]] &= self.parents[corner] < 0
        return False

    def _exits(self, left: np.ndarray, rises: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cell that ends each way on which a function changes, and how long that is.

        Of the cells that end it within rounding, the one on which the function falls the fastest.
        """
        fall = -rises
        falls = fall > STEEPNESS
        falls[self.place[face]] = False
        fall = np.where(falls, fall, 1.0)
        steps = np.where(falls, left[:, None] / fall, np.inf)
        furthest = np.where(falls, steps + 0.01 * ROUNDING / fall, np.inf).min(axis=0)
        cell = np.where(falls & (steps <= furthest), fall, -1.0).argmax(axis=0)
        return cell, steps[cell, np.arange(rises.shape[1])]

    def expand(self, corner: int) -> None:
        """Look at the neighbours of a corner: on each edge, the function stays zero on all but one cell of its face."""
        if self.expanded[corner]:
            return
        self.expanded[corner] = True
        self.n_expanded += 1
        face = self.faces[corner]
        try:
            inverse = np.linalg.inv(self.points[face])
        except np.linalg.LinAlgError:  # see `_zero_on`
            return
        s = -inverse.sum(axis=1)
        directions = inverse / np.linalg.norm(inverse, axis=0)
        left, rises = np.maximum(1 + self.outer @ s, 0), self.outer @ directions
        cell, steps = self._exits(left, rises, face)
        ends = np.flatnonzero(np.isfinite(steps))
        peaks = (left[:, None] + steps[ends] * rises[:, ends]).max(axis=0)
        for k, peak in zip(ends, peaks, strict=True):
            neighbour = face.copy()
            neighbour[k] = self.cells[cell[k]]
            self._add(neighbour, s + steps[k] * directions[:, k], peak, corner)

    def inner_simplex(self) -> np.ndarray:
        """Points of the polytope, not its corners, with zero in their convex hull: functions for the inner simplex."""
        columns = np.column_stack([np.ones(self.n_cells), self.points])[inner_simplex(self.points)]
        if np.linalg.cond(columns) > 1 / ROUNDING:
            raise ArithmeticError("The cells lie in a space of a lower dimension.")
        directions = np.linalg.inv(columns)[1:]
        return np.column_stack([np.ones(self.dim + 1), (directions / -(self.points @ directions).min(axis=0)).T])

    def walk(self, s: np.ndarray, prices: np.ndarray) -> int:
        """A corner that promises no less than a point: from face to face, the way the promise rises; -1 if none."""
        face = np.empty(0, dtype=np.int64)
        while len(face) < self.dim:
            inside = np.linalg.svd(self.points[face])[2][len(face) :].T if len(face) else np.eye(self.dim)
            rise = inside @ (inside.T @ (2 * s - prices))
            direction = rise if np.linalg.norm(rise) > 1e-9 * (1 + np.linalg.norm(prices)) else inside[:, 0]
            direction = direction / np.linalg.norm(direction)
            left = np.maximum(1 + self.outer @ s, 0)
            cell, step = self._exits(left, (self.outer @ direction)[:, None], face)
            if not np.isfinite(step[0]):
                return -1
            s = s + step[0] * direction
            face = np.append(face, self.cells[cell])
        corner = _zero_on(self.points[face])
        return -1 if corner is None else self._add(face, corner, np.inf, -1)


def _zero_on(face: Float[np.ndarray, "dim dim"]) -> Float[np.ndarray, " dim"] | None:
    """The function that is zero on the points of a face; none if, but for rounding errors, some are in one place."""
    try:
        return np.linalg.solve(face, -np.ones(len(face)))
    except np.linalg.LinAlgError:
        return None
