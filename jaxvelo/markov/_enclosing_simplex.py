r"""The simplex around a cloud of points whose memberships are the crispest: its faces are faces of the cloud's hull."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

ROUNDING = 1e-9
"""Largest violation of an inequality that counts as none; memberships are of the order one."""
STEEPNESS = 1e-10
"""A function that changes by less along a direction of unit length counts as constant along it."""
DIRECTIONS = 128
"""How many random directions, besides the axes, find the first cells that may lie on a face."""
SMALLEST_GAIN = 1e-9
"""Relative to the crispness, an improvement that counts."""
EXPANSIONS = 3000
"""Of so many corners the neighbours are looked at, at most."""
IDLE = 150
"""And of so many since the last improvement."""


def enclosing_simplex(points: Float[np.ndarray, "cells dim"]) -> Int[np.ndarray, "faces dim"]:
    r"""Cells on the faces of the simplex around all cells that gives the crispest memberships.

    Non-negative functions :math:`1 + y_i \cdot s` of the cells' coordinates :math:`y_i` are a polytope of vectors
    :math:`s`, whose corners are the faces of the convex hull of the cells: a corner's function is zero on the cells of
    its face. Memberships :math:`\chi_{ij} = w_j (1 + y_i \cdot s_j)` are non-negative and sum to one if each
    :math:`s_j` lies in the polytope, :math:`w_j \geq 0`, :math:`\sum_j w_j = 1` and :math:`\sum_j w_j s_j = 0`; their
    crispness, the mean self-overlap, is :math:`\sum_j w_j (1 + |s_j|^2) / m`. That is linear in the weights and convex
    in the :math:`s_j`. So the crispest memberships are found among the corners, and they solve a linear programme with
    one variable for each corner. Here it is solved by generation of columns: the simplex method keeps m corners, and
    the neighbours along the polytope's edges of those corners that promise most are looked at, best first, for one that
    improves the solution. Where there are few corners, all are looked at, and the optimum is the global one; otherwise
    the search ends where many neighbours in a row bring nothing.

    Few cells lie on a face. The search knows only such ones; each corner that it takes is checked on all cells, and
    cells on which the function is negative are added.

    Parameters
    ----------
    points
        The cells' coordinates: with weighted mean zero, weighted covariance the identity.

    Returns
    -------
    numpy.ndarray
        The cells of each face, of shape (dim + 1, dim).

    Raises
    ------
    ArithmeticError
        If the cells lie in a space of a lower dimension.
    """
    search = _Corners(points)
    simplex = search.inner_simplex()
    basis = np.full(len(simplex), -1)
    first = np.eye(len(simplex))[0]
    random = np.random.default_rng(0)
    idle = 0
    while search.n_expanded < EXPANSIONS and idle < IDLE:
        price = np.linalg.solve(simplex, (simplex**2).sum(axis=1))
        if (basis < 0).any():
            start = simplex[basis.argmin(), 1:]
            best = search.walk(start, price[1:] + idle * random.standard_normal(len(first) - 1))
            gains = best is not None and search.promise(price)[best] > -SMALLEST_GAIN * price[0]
            idle += 1
        else:
            promise = search.promise(price)
            best = int(promise.argmax())
            gains = promise[best] > SMALLEST_GAIN * price[0]
        if gains:
            if not search.confirm(best):
                continue
            weights, change = np.linalg.solve(simplex.T, np.column_stack([first, search.columns[best]])).T
            with np.errstate(divide="ignore", invalid="ignore"):
                steps = np.where(change > 1e-9, np.maximum(weights, 0) / change, np.inf)
            leaves = int(steps.argmin())
            basis[leaves], simplex[leaves] = best, search.columns[best]
            search.expand(best)
            idle = 0
        elif (basis >= 0).all():
            idle += 1
            promise[search.expanded[: len(promise)]] = -np.inf
            unseen = [corner for corner in basis if not search.expanded[corner]]
            best = unseen[0] if unseen else int(promise.argmax())
            if not np.isfinite(promise[best]):
                break
            search.expand(best)
    if (basis < 0).any():
        raise ArithmeticError("No simplex around the cells was found.")
    return search.faces[basis]


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
        self.faces = np.empty((0, self.dim), dtype=np.int64)
        self.parents = np.empty(0, dtype=np.int64)
        self.expanded = np.empty(0, dtype=bool)
        self.number: dict[bytes, int] = {}
        self.n_expanded = 0

    def _outermost(self) -> np.ndarray:
        random = np.random.default_rng(0).standard_normal((self.dim, DIRECTIONS))
        found = [(self.points @ random).argmin(axis=0), self.points.argmin(axis=0), self.points.argmax(axis=0)]
        return np.unique(np.concatenate(found))

    def _take(self, cells: np.ndarray) -> None:
        self.place[cells] = np.arange(len(self.cells), len(self.cells) + len(cells))
        self.cells = np.concatenate([self.cells, cells])
        self.outer = np.concatenate([self.outer, self.points[cells]])

    def _add(self, face: np.ndarray, s: np.ndarray, parent: int) -> int:
        face = np.sort(face)
        key = face.tobytes()
        if key in self.number:
            return self.number[key]
        if self.n_seen == len(self.columns):
            more = max(1000, self.n_seen)
            self.columns = np.concatenate([self.columns, np.ones((more, self.dim + 1))])
            self.faces = np.concatenate([self.faces, np.zeros((more, self.dim), dtype=np.int64)])
            self.parents = np.concatenate([self.parents, np.full(more, -1)])
            self.expanded = np.concatenate([self.expanded, np.zeros(more, dtype=bool)])
            self.values = np.concatenate([self.values, np.zeros(more)])
        new = self.number[key] = self.n_seen
        self._place(new, s)
        self.faces[new] = face
        self.parents[new] = parent
        self.n_seen += 1
        return new

    def _place(self, corner: int, s: np.ndarray) -> None:
        self.columns[corner, 1:] = s
        self.values[corner] = 1 + s @ s

    def promise(self, price: np.ndarray) -> np.ndarray:
        """By how much a corner's value exceeds the price of its column."""
        return self.values[: self.n_seen] - self.columns[: self.n_seen] @ price

    def confirm(self, corner: int) -> bool:
        """Whether a corner's function is negative on no cell; if it is, such cells are added, the parent is reopened."""
        s = np.linalg.solve(self.points[self.faces[corner]], -np.ones(self.dim))
        function = 1 + self.points @ s
        if function.min() >= -ROUNDING:
            self._place(corner, s)
            return True
        self.values[corner] = -np.inf
        worst = np.argpartition(function, min(10, self.n_cells - 1))[:10]
        new = worst[(function[worst] < -ROUNDING) & (self.place[worst] < 0)]
        if len(new):
            self._take(new)
            self.expanded[self.parents[corner]] &= self.parents[corner] < 0
        return False

    def _exits(self, s: np.ndarray, directions: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cell that ends each way from a point along directions of unit length, and how far it is.

        Of the cells that end it within rounding, the one on which the function falls the fastest (Harris 1973).
        """
        rows = self.place[face]
        left = np.maximum(1 + self.outer @ s, 0)[:, None]
        fall = -(self.outer @ directions)
        falls = fall > STEEPNESS
        falls[rows] &= left[rows] > 1e-6
        fall = np.where(falls, fall, 1.0)
        steps = np.where(falls, left / fall, np.inf)
        furthest = np.where(falls, (left + 0.01 * ROUNDING) / fall, np.inf).min(axis=0)
        cell = np.where(falls & (steps <= furthest), fall, -1.0).argmax(axis=0)
        return self.cells[cell], steps[cell, np.arange(directions.shape[1])]

    def _edges(self, face: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """A corner, its edges as unit vectors (columns), how long they are, and the cell at the end of each."""
        inverse = np.linalg.inv(self.points[face])
        s = -inverse.sum(axis=1)
        directions = inverse / np.linalg.norm(inverse, axis=0)
        cells, steps = self._exits(s, directions, face)
        return s, directions, steps, cells

    def expand(self, corner: int) -> None:
        """Look at the neighbours of a corner."""
        if self.expanded[corner]:
            return
        self.expanded[corner] = True
        self.n_expanded += 1
        face = self.faces[corner]
        s, directions, steps, cells = self._edges(face)
        for k in np.flatnonzero(np.isfinite(steps)):
            neighbour = face.copy()
            neighbour[k] = cells[k]
            self._add(neighbour, s + steps[k] * directions[:, k], corner)

    def inner_simplex(self) -> np.ndarray:
        """Points of the polytope, not its corners, whose convex hull contains zero."""
        axes = np.eye(self.dim + 1) - 1 / (self.dim + 1)
        directions = np.linalg.svd(axes)[2][: self.dim] @ axes
        directions /= np.linalg.norm(directions, axis=0)
        lowest = (self.points @ directions).min(axis=0)
        if not (lowest < -STEEPNESS).all():
            raise ArithmeticError("The cells lie in a space of a lower dimension.")
        return np.column_stack([np.ones(self.dim + 1), (directions / -lowest).T])

    def walk(self, s: np.ndarray, price: np.ndarray) -> int | None:
        """A corner that promises no less than a point of the polytope: from face to face, the way the promise rises."""
        face = np.empty(0, dtype=np.int64)
        while len(face) < self.dim:
            inside = np.linalg.svd(self.points[face])[2][len(face) :].T if len(face) else np.eye(self.dim)
            rise = inside @ (inside.T @ (2 * s - price))
            direction = rise if np.linalg.norm(rise) > 1e-9 * (1 + np.linalg.norm(price)) else inside[:, 0]
            direction = direction / np.linalg.norm(direction)
            cell, step = self._exits(s, direction[:, None], face)
            if not np.isfinite(step[0]):
                return None
            s = s + step[0] * direction
            face = np.append(face, cell[0])
        return self._add(face, np.linalg.solve(self.points[face], -np.ones(self.dim)), -1)
