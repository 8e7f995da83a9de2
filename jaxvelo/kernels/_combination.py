"""Sums and products of kernels."""

from __future__ import annotations

import functools
import operator
from typing import Any

import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.graph import Edges, NeighborGraph, TransitionMatrix
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

    def combined(self, leaves: dict[int, Expression]) -> Expression:
        """Combine pure expressions, given those of the basic kernels by :func:`id`."""
        raise TypeError(f"`{type(self).__name__}` is abstract.")

    def compute_transition_matrix(self) -> KernelExpression:
        """Combine the transition matrices of the basic kernels, which must have been computed."""
        for kernel in self.kernels:
            if kernel.transition_matrix is None:
                raise RuntimeError(
                    f"`{kernel}` is uninitialized. Compute its transition matrix first as `.compute_transition_matrix()`."
                )
        data, values = _on_one_graph(self.kernels)
        names = {id(kernel): f"kernel {i}" for i, kernel in enumerate(self.kernels)}
        graph = data.graph
        edges = {name: Edges(v, graph.mask) for name, v in zip(names.values(), values, strict=True)}
        bare = NeighborGraph(graph.rows, graph.columns, graph.position, edges)
        combined = self.combined({key: Precomputed(name) for key, name in names.items()})(bare)
        self._transitions = TransitionMatrix(graph, combined.values)
        self._matrix = data.stochastic_csr(combined.values)
        return self

    @property
    def transition_matrix(self) -> sp.csr_matrix:
        """Row-stochastic matrix of shape ``(cells, cells)``, float64; computed when first asked for."""
        if self._matrix is None:
            self.compute_transition_matrix()
        assert self._matrix is not None
        return self._matrix

    @property
    def transitions(self) -> TransitionMatrix:
        """The transition matrix as a pytree on the device."""
        if self._transitions is None:
            self._transitions = self.graph_data.transitions(self.transition_matrix)
        return self._transitions

    def restore(self, matrix: sp.csr_matrix) -> None:
        """Take a stored result, unchanged to the last bit."""
        self._matrix, self._transitions = matrix, None

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
        return {name: features for kernel in self.kernels for name, features in kernel.features.items()}

    @property
    def adata(self) -> AnnData:
        """Annotated data."""
        return self.kernels[0].adata

    @adata.setter
    def adata(self, adata: AnnData) -> None:
        for kernel in self.kernels:
            kernel.adata = adata

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
        copies = {id(kernel): kernel.copy() for kernel in self.kernels}
        if deep:
            adata = self.adata.copy()
            for kernel in copies.values():
                kernel.adata = adata
        other = self.replaced(copies)
        if self._matrix is not None:
            other._matrix, other._transitions = self._matrix.copy(), self._transitions
        return other

    def __invert__(self) -> Combination:
        return self.replaced({id(kernel): ~kernel for kernel in self.kernels})

    def replaced(self, kernels: dict[int, Kernel]) -> Combination:
        """Return the same combination of other basic kernels, given by the :func:`id` of the present ones."""
        parts = (
            p.replaced(kernels) if isinstance(p, Combination) else p if isinstance(p, Constant) else kernels[id(p)]
            for p in self.parts
        )
        return type(self)(*parts)

    def __getitem__(self, index: int) -> KernelExpression:
        return self.parts[index]

    def __len__(self) -> int:
        return len(self.parts)

    def format(self, full: bool) -> str:
        """Name the combination, with the parameters of its kernels if ``full``."""
        return "(" + f" {self._operator} ".join(part.format(full) for part in self.parts) + ")"


class Constant(Kernel):
    """A weight in a combination.

    Parameters
    ----------
    adata
        Annotated data of the kernel that it weighs.
    value
        The positive weight.
    """

    def __init__(self, adata: AnnData, value: float):
        if not value > 0 or value == float("inf"):
            raise ValueError(f"Expected the scalar to be positive and finite, found `{value}`.")
        super().__init__(adata, GraphData({}), {})
        self.value = float(value)

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

    def format(self, full: bool) -> str:
        """Write the weight."""
        return repr(round(self.value, 3))


class KernelMul(Combination):
    """Product of kernels, or one kernel with a weight in front."""

    _operator = "*"

    @property
    def weight(self) -> float | None:
        """The weight in front, if there is one."""
        first = self.parts[0]
        return first.value if isinstance(first, Constant) else None

    def combined(self, leaves: dict[int, Expression]) -> Expression:
        """Multiply pure expressions, given those of the basic kernels by :func:`id`."""
        if self.weight is not None:
            return self.weight * _combined(self.parts[1], leaves)
        return Product(tuple(_combined(part, leaves) for part in self.parts))

    def format(self, full: bool, total: float = 1.0) -> str:
        """Name the product; the weight is shown as a part of ``total``."""
        if self.weight is None:
            return super().format(full)
        return f"{round(self.weight / total, 3)!r} * {self.parts[1].format(full)}"


class KernelAdd(Combination):
    """Weighted mean of kernels."""

    _operator = "+"

    def combined(self, leaves: dict[int, Expression]) -> Expression:
        """Add pure expressions, given those of the basic kernels by :func:`id`."""
        return functools.reduce(operator.add, (_combined(part, leaves) for part in self.parts))

    @property
    def weights(self) -> tuple[float | None, ...]:
        """Weights of the terms, as parts of their sum; ``None`` for a product that has none."""
        given = [part.weight if isinstance(part, KernelMul) else None for part in self.parts]
        total = sum(w for w in given if w is not None)
        return tuple(None if w is None else w / total for w in given)

    def format(self, full: bool) -> str:
        """Name the sum, with the parameters of its kernels if ``full``."""
        total = sum(p.weight for p in self.parts if isinstance(p, KernelMul) and p.weight is not None)
        terms = (p.format(full, total or 1.0) if isinstance(p, KernelMul) else p.format(full) for p in self.parts)
        return "(" + " + ".join(terms) + ")"


def _combined(part: KernelExpression, leaves: dict[int, Expression]) -> Expression:
    return part.combined(leaves) if isinstance(part, Combination) else leaves[id(part)]


def _on_one_graph(kernels: tuple[Kernel, ...]) -> tuple[GraphData, list[tuple]]:
    """Bring transition probabilities onto one graph, the union of all."""
    first = kernels[0]
    if all(_same_graph(first.graph_data, kernel.graph_data) for kernel in kernels[1:]):
        return first.graph_data, [kernel.transitions.values for kernel in kernels]
    matrices = {f"transition matrix {i}": kernel.require_transitions() for i, kernel in enumerate(kernels)}
    joined = functools.reduce(lambda data, k: data.with_matrices(k.graph_data.matrices), kernels, GraphData(matrices))
    return joined, [joined.graph.edges[name].values for name in matrices]


def _same_graph(a: GraphData, b: GraphData) -> bool:
    return a.matrices.keys() == b.matrices.keys() and all(same_matrix(a.matrices[n], b.matrices[n]) for n in a.matrices)


def add(left: KernelExpression, right: KernelExpression) -> KernelAdd:
    """Add, as CellRank does: a weighted term joins a sum of weighted terms; other sums become a term."""
    left, right = _as_term(left), _as_term(right)
    for total, term in ((left, right), (right, left)):
        if isinstance(total, KernelAdd) and isinstance(term, KernelMul) and term.weight is not None:
            if None not in total.weights:
                return KernelAdd(*total.parts, term)
    return KernelAdd(*(scale(part, 1.0) if isinstance(part, KernelAdd) else part for part in (left, right)))


def _as_term(kernel: KernelExpression) -> KernelExpression:
    return scale(kernel, 1.0) if isinstance(kernel, Kernel) else kernel


def multiply(left: KernelExpression, right: KernelExpression) -> KernelMul:
    """Multiply; weights in front of a factor are without effect and are left out."""
    factors = (k.parts[1] if isinstance(k, KernelMul) and k.weight is not None else k for k in (left, right))
    return KernelMul(*factors)


def scale(kernel: KernelExpression, weight: float) -> KernelMul:
    """Put a weight in front; two weights become one."""
    if isinstance(kernel, KernelMul) and kernel.weight is not None:
        return KernelMul(Constant(kernel.adata, kernel.weight * weight), kernel.parts[1])
    return KernelMul(Constant(kernel.adata, weight), kernel)
