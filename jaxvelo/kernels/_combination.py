"""Sums and products of kernels."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.order import aligned
from jaxvelo.graph import Edges, NeighborGraph, Pattern, TransitionMatrix
from jaxvelo.kernels._graph_data import GraphData, same_matrix
from jaxvelo.kernels._kernel import Kernel, KernelExpression
from jaxvelo.transitions import Expression, Features, Precomputed, Product


class Combination(KernelExpression):
    """Kernels combined by one operation.

    Parameters
    ----------
    parts
        The kernels.
    """

    _operator: str

    def __init__(self, *parts: KernelExpression):
        shapes = {part.shape for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"Expected all kernels to have the same shape, found {sorted(shapes)}.")
        directions = {part.backward for part in parts} - {None}
        if len(directions) > 1:
            raise ValueError("Unable to combine both forward and backward kernels. Invert one of them as `~kernel`.")
        self.parts = parts
        self._backward = directions.pop() if directions else None
        self._matrix: sp.csr_matrix | None = None
        self._transitions: TransitionMatrix | None = None
        self._combined_matrices: tuple[sp.csr_matrix | None, ...] = ()

    def combined(self, leaves: dict[int, Expression]) -> Expression:
        """Combine pure expressions, given those of the basic kernels by :func:`id`."""
        raise TypeError(f"`{type(self).__name__}` is abstract.")

    def compute_transition_matrix(self) -> KernelExpression:
        """Combine the transition matrices of the basic kernels, which must have been computed."""
        for kernel in self.kernels:
            if kernel.transition_matrix is None:
                raise RuntimeError(
                    f"`{kernel}` is uninitialized. "
                    "Compute its transition matrix first as `.compute_transition_matrix()`."
                )
        data, mask, values = _on_one_graph(self.kernels)
        names = {id(kernel): f"kernel {i}" for i, kernel in enumerate(self.kernels)}
        graph = data.graph
        edges = {name: Edges(v, mask) for name, v in zip(names.values(), values, strict=True)}
        pattern = Pattern(graph.rows, graph.columns, mask, graph.pattern.n_cells)
        bare = NeighborGraph(pattern, graph.position, edges)
        combined = self.combined({key: Precomputed(name) for key, name in names.items()})(bare)
        self._take(data.stochastic_csr(combined.values), TransitionMatrix(graph, combined.values))
        return self

    def _take(self, matrix: sp.csr_matrix, transitions: TransitionMatrix | None) -> None:
        self._matrix, self._transitions = matrix, transitions
        self._combined_matrices = tuple(kernel.transition_matrix for kernel in self.kernels)

    def _is_current(self) -> bool:
        """Whether there is a result, and none of the basic kernels has been computed anew since."""
        now = (kernel.transition_matrix for kernel in self.kernels)
        return self._matrix is not None and all(
            before is after for before, after in zip(self._combined_matrices, now, strict=True)
        )

    @property
    def transition_matrix(self) -> sp.csr_matrix:
        """Row-stochastic matrix of shape ``(cells, cells)``, float64; computed when first asked for."""
        if not self._is_current():
            self.compute_transition_matrix()
        assert self._matrix is not None
        return self._matrix

    @property
    def transitions(self) -> TransitionMatrix:
        """The transition matrix as a pytree on the device."""
        matrix = self.transition_matrix
        if self._transitions is None:
            self._transitions = self.graph_data.transitions(matrix)
        return self._transitions

    def restore(self, matrix: sp.csr_matrix) -> None:
        """Take a stored result, unchanged to the last bit."""
        self._take(matrix, None)

    @property
    def expression(self) -> Expression:
        """The pure, differentiable expression: ``expression(graph, features)`` gives :attr:`transitions`."""
        return self.combined({id(kernel): kernel.expression for kernel in self.kernels})

    @property
    def graph_data(self) -> GraphData:
        """The sparse matrices of all basic kernels."""
        return functools.reduce(lambda data, k: data.with_matrices(k.graph_data.matrices), self.kernels, GraphData({}))

    @property
    def features(self) -> dict[str, Features]:
        """Expression and velocity of all basic kernels, by name."""
        return _joined_features(self.kernels)

    @property
    def adata(self) -> AnnData:
        """Annotated data."""
        return self.kernels[0].adata

    @adata.setter
    def adata(self, adata: AnnData) -> None:
        for part in self.parts:
            part.adata = adata

    @property
    def backward(self) -> bool | None:
        """Direction of the process."""
        return self._backward

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The basic kernels, each once, in order of appearance."""
        return tuple({id(kernel): kernel for part in self.parts for kernel in part.kernels}.values())

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of each basic kernel."""
        return {f"{kernel!r}:{i}": kernel.params for i, kernel in enumerate(self.kernels)}

    def copy(self, *, deep: bool = False) -> Combination:
        """Copy the kernels, with their AnnData object only if ``deep``."""
        other = self.replaced({id(kernel): kernel.copy() for kernel in self.kernels})
        if self._matrix is not None and self._is_current():
            other._take(self._matrix.copy(), self._transitions)
        if deep:
            other.adata = self.adata.copy()
        return other

    def __invert__(self) -> Combination:
        return self.replaced({id(kernel): ~kernel for kernel in self.kernels})

    def replaced(self, kernels: dict[int, Kernel]) -> Combination:
        """Return the same combination of other basic kernels, given by the :func:`id` of the present ones."""
        parts = (
            part.replaced(kernels)
            if isinstance(part, Combination)
            else part.copy()
            if isinstance(part, Constant)
            else kernels[id(part)]
            for part in self.parts
        )
        return type(self)(*parts)

    def __getitem__(self, index: int) -> KernelExpression:
        return self.parts[index]

    def __len__(self) -> int:
        return len(self.parts)

    def format(self, full: bool, computed: bool = False) -> str:
        """Name the combination, with the parameters of its kernels if ``full``.

        As in CellRank, weights are those that were given until the combination is computed, which makes them sum to
        one.
        """
        computed = computed or self._matrix is not None
        return "(" + f" {self._operator} ".join(part.format(full, computed) for part in self.parts) + ")"


class Constant(Kernel):
    """A weight in a combination.

    Parameters
    ----------
    adata
        Annotated data of the kernel that it weighs.
    value
        The positive weight, one for all cells or one for each, shape ``(cells,)``.
    """

    def __init__(self, adata: AnnData, value: float | np.ndarray):
        array = np.array(value)  # a copy: the caller's array may change later
        if array.dtype.kind not in "iuf":
            raise TypeError(
                f"Expected a weight to be a number, or one for each cell, found `{type(value).__name__}` of the type "
                f"{array.dtype}. Convert it, as by `.astype(float)`, with a small positive number in place of 0."
            )
        array = array.astype(np.float64)
        if array.shape not in ((), (adata.n_obs,)):
            raise ValueError(f"Expected one weight, or one for each of the {adata.n_obs} cells, found {array.shape}.")
        if not (np.isfinite(array).all() and (array > 0).all()):
            bad = array[~(np.isfinite(array) & (array > 0))]
            raise ValueError(f"Expected the scalar to be positive and finite, found {listed(np.atleast_1d(bad), 3)}.")
        super().__init__(adata, GraphData({}), {})
        self.value: float | np.ndarray = float(array) if array.ndim == 0 else array

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """No kernels."""
        return ()

    @property
    def backward(self) -> None:
        """No direction."""

    @property
    def expression(self) -> Expression:
        """A weight has no expression of its own."""
        raise TypeError("A weight is part of a sum of kernels and has no transition matrix of its own.")

    def compute_transition_matrix(self) -> Constant:
        """Return the weight: there is nothing to compute."""
        return self

    def format(self, full: bool, computed: bool = False) -> str:
        """Write the weight."""
        return format_weight(self.value)


class KernelMul(Combination):
    """Product of kernels, or one kernel with a weight in front."""

    _operator = "*"

    @property
    def weight(self) -> float | np.ndarray | None:
        """The weight in front, if there is one."""
        first = self.parts[0]
        return first.value if isinstance(first, Constant) else None

    def combined(self, leaves: dict[int, Expression]) -> Expression:
        """Multiply pure expressions, given those of the basic kernels by :func:`id`."""
        if self.weight is not None:
            return _combined(self.parts[1], leaves) * self.weight
        return Product(tuple(_combined(part, leaves) for part in self.parts))

    def format(self, full: bool, computed: bool = False, total: Any = 1.0) -> str:
        """Name the product; the weight is shown as a part of ``total``."""
        computed = computed or self._matrix is not None
        if self.weight is None:
            return super().format(full, computed)
        return f"{format_weight(self.weight / total)} * {self.parts[1].format(full, computed)}"

    def _with_direction(self, text: str) -> str:
        return super()._with_direction(text if self.weight is None or not self.backward else f"({text})")


class KernelAdd(Combination):
    """Weighted mean of kernels."""

    _operator = "+"

    def combined(self, leaves: dict[int, Expression]) -> Expression:
        """Add pure expressions, given those of the basic kernels by :func:`id`."""
        return functools.reduce(operator.add, (_combined(part, leaves) for part in self.parts))

    @property
    def weights(self) -> tuple[float | np.ndarray | None, ...]:
        """Weights of the terms, as parts of their sum; ``None`` for a product that has none."""
        given = [part.weight if isinstance(part, KernelMul) else None for part in self.parts]
        total = self._total_weight()
        return tuple(None if w is None else w / total for w in given)

    def format(self, full: bool, computed: bool = False) -> str:
        """Name the sum, with the parameters of its kernels if ``full``; weights as :meth:`Combination.format` says."""
        computed = computed or self._matrix is not None
        total = self._total_weight() if computed else 1.0
        terms = (
            p.format(full, computed, total) if isinstance(p, KernelMul) else p.format(full, computed)
            for p in self.parts
        )
        return "(" + " + ".join(terms) + ")"

    def _total_weight(self) -> Any:
        given = [p.weight for p in self.parts if isinstance(p, KernelMul) and p.weight is not None]
        return sum(given[1:], given[0]) if given else 1.0

    def with_weights(self, weights: Sequence[np.ndarray]) -> KernelAdd:
        """Return the same sum with other weights of its weighted terms, each a number or one for each cell."""
        new = iter(weights)
        parts = (
            KernelMul(Constant(self.adata, next(new)), part.parts[1])
            if isinstance(part, KernelMul) and part.weight is not None
            else part
            for part in self.parts
        )
        return KernelAdd(*parts)


def read_weight(value: Any, adata: AnnData) -> float | np.ndarray | None:
    """Return a weight of any library as a number or as one for each cell; ``None`` if it is none."""
    if isinstance(value, pd.Series):
        values = aligned(value, adata.obs_names, "weight")
        is_numeric = pd.api.types.is_numeric_dtype(value.dtype) and not pd.api.types.is_bool_dtype(value.dtype)
        return values.astype(np.float64) if is_numeric else values
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number, np.ndarray, jax.Array)):
        return None
    array = np.asarray(value)
    return float(array) if array.ndim == 0 and array.dtype.kind in "iuf" else array


def format_weight(weight: float | np.ndarray) -> str:
    """Write a weight; of one that differs among cells, its mean and its range."""
    if isinstance(weight, np.ndarray):
        return f"{weight.mean():.3f} ({weight.min():.3f} to {weight.max():.3f})"
    return repr(round(weight, 3))


def _combined(part: KernelExpression, leaves: dict[int, Expression]) -> Expression:
    return part.combined(leaves) if isinstance(part, Combination) else leaves[id(part)]


def _on_one_graph(kernels: tuple[Kernel, ...]) -> tuple[GraphData, tuple, list[tuple]]:
    """Bring transition probabilities onto one graph, the union of all; also give which of its slots are edges."""
    first = kernels[0]
    if all(_stands_on(kernel, first.graph_data) for kernel in kernels):
        return first.graph_data, first.graph.mask, [kernel.transitions.values for kernel in kernels]
    matrices = {f"transition matrix {i}": kernel.require_transitions() for i, kernel in enumerate(kernels)}
    joined = functools.reduce(lambda data, k: data.with_matrices(k.graph_data.matrices), kernels, GraphData(matrices))
    graph = joined.graph
    # A cell without neighbours stays in a transition matrix. That makes no edge, as it makes none in the expression.
    own = [edges.mask for name, edges in graph.edges.items() if name not in matrices]
    mask = tuple(functools.reduce(operator.or_, bucket) for bucket in zip(*own, strict=True))
    return joined, mask, [graph.edges[name].values for name in matrices]


def _stands_on(kernel: Kernel, data: GraphData) -> bool:
    """Whether the transition probabilities of a kernel stand in the slots of a graph; stored ones may not."""
    own = kernel.graph_data
    return (
        own.matrices.keys() == data.matrices.keys()
        and all(same_matrix(own.matrices[name], data.matrices[name]) for name in own.matrices)
        and kernel.transitions.graph is own.graph
    )


def _joined_features(kernels: tuple[Kernel, ...]) -> dict[str, Features]:
    """Features of all kernels; those of one name must be the same."""
    joined: dict[str, Features] = {}
    for kernel in kernels:
        for name, features in kernel.features.items():
            known = joined.get(name)
            if known is not None and not _same_features(known, features):
                raise ValueError(
                    f"Expected kernels on the same data, found two different expressions or velocities named {name!r}. "
                    "Make the kernels anew, all after the last change of the AnnData object."
                )
            # A user's similarity must not see padding; all others work with or without.
            if known is None or features.n_genes is None:
                joined[name] = features
    return joined


def _same_features(a: Features, b: Features) -> bool:
    if a is b:
        return True
    n_genes = [features.x.shape[1] if features.n_genes is None else int(features.n_genes) for features in (a, b)]
    n_cells = min(a.x.shape[0], b.x.shape[0])
    return n_genes[0] == n_genes[1] and all(
        np.array_equal(np.asarray(left)[:n_cells, : n_genes[0]], np.asarray(right)[:n_cells, : n_genes[0]])
        for left, right in ((a.x, b.x), (a.v, b.v))
    )


def add(left: KernelExpression, right: KernelExpression) -> KernelAdd:
    """Add, as CellRank does: a weighted term joins a sum of weighted terms; other sums become a term."""
    left, right = _as_term(left), _as_term(right)
    for total, term in ((left, right), (right, left)):
        is_weighted = isinstance(term, KernelMul) and term.weight is not None
        if is_weighted and isinstance(total, KernelAdd) and None not in total.weights:
            return KernelAdd(*total.parts, term)
    return KernelAdd(*(scale(part, 1.0) if isinstance(part, KernelAdd) else part for part in (left, right)))


def _as_term(kernel: KernelExpression) -> KernelExpression:
    return scale(kernel, 1.0) if isinstance(kernel, Kernel) else kernel


def multiply(left: KernelExpression, right: KernelExpression) -> KernelMul:
    """Multiply; weights in front of a factor are without effect and are left out."""
    factors = (k.parts[1] if isinstance(k, KernelMul) and k.weight is not None else k for k in (left, right))
    return KernelMul(*factors)


def scale(kernel: KernelExpression, weight: float | np.ndarray) -> KernelMul:
    """Put a weight in front; two weights become one."""
    if isinstance(kernel, KernelMul) and kernel.weight is not None:
        return KernelMul(Constant(kernel.adata, kernel.weight * weight), kernel.parts[1])
    return KernelMul(Constant(kernel.adata, weight), kernel)
