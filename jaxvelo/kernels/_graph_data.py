"""The graph of a kernel and the transition probabilities on it, on the device and as sparse matrices."""

from __future__ import annotations

import dataclasses
import functools
import operator
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.sharding import Mesh

from jaxvelo.configuration import settings
from jaxvelo.graph import Edges, NeighborGraph, TransitionMatrix
from jaxvelo.graph._csr_layout import CsrLayout
from jaxvelo.graph._neighbor_graph import graph_and_layout
from jaxvelo.transitions import Precomputed, TransitionFunction

_STORED = "transition matrix"
"""Name, on a graph, of a transition matrix with entries beyond those of the kernel."""


@dataclasses.dataclass(frozen=True, eq=False)
class GraphData:
    """Sparse matrices by name, and the graph of the union of their entries.

    Attributes
    ----------
    matrices
        The matrices, each a set of edges of :attr:`graph`.
    dtype
        Floating-point type of the values on the graph: JAX's default when the data were made. Where JAX has no double
        precision, a graph of such data holds single precision; it is another one than that in double precision.
    mesh, shard_features
        Devices that share the graph, and whether they share expression and velocity too: the settings when the data
        were made.
    """

    matrices: dict[str, sp.csr_matrix]
    dtype: np.dtype = dataclasses.field(default_factory=lambda: np.dtype(jnp.result_type(float)))
    mesh: Mesh | None = dataclasses.field(default_factory=lambda: settings.mesh)
    shard_features: bool = dataclasses.field(default_factory=lambda: settings.shard_features)

    @classmethod
    def shared(cls, name: str, matrix: sp.csr_matrix) -> GraphData:
        """Data of one matrix: those of a living kernel if they are the same number by number, else of a copy of it."""
        own = (np.dtype(jnp.result_type(float)), settings.mesh, settings.shard_features)
        with _lock:
            for known in list(_in_use):
                theirs = (known.dtype, known.mesh, known.shard_features)
                is_alike = own == theirs and known.matrices.keys() == {name}
                if is_alike and same_matrix(known.matrices[name], matrix):
                    return known
            copied = matrix.copy()
            for array in (copied.data, copied.indices, copied.indptr):
                array.flags.writeable = False  # else a user's change of `connectivities` would not reach the graph
            data = cls({name: copied})
            _in_use.add(data)
        return data

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the data themselves, of which nothing changes."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Give what is pickled; devices cannot be."""
        if self.mesh is not None:
            raise TypeError(
                f"Expected a kernel on one device to pickle it, found one on a mesh of {self.mesh.size}. Write it by "
                "`kernel.write(fname)`, and read it by `jaxvelo.kernels.read(fname)` where `jaxvelo.settings.mesh` "
                "names the devices."
            )
        return self.__dict__

    @property
    def graph(self) -> NeighborGraph:
        """The graph as arrays on the device."""
        return self._graph_and_layout[0]

    @property
    def layout(self) -> CsrLayout:
        """Where the entries of a CSR matrix stand in the graph."""
        return self._graph_and_layout[1]

    @property
    def _graph_and_layout(self) -> tuple[NeighborGraph, CsrLayout]:
        dtype = self._available_dtype
        if dtype not in self._made:
            self._made[dtype] = graph_and_layout(self.matrices, dtype, self.mesh, halo=self.shard_features)
        return self._made[dtype]

    @functools.cached_property
    def _made(self) -> dict[np.dtype, tuple[NeighborGraph, CsrLayout]]:
        """Graph and layout by the type of the values: JAX's precision may be another now than at the first use."""
        return {}

    @property
    def _available_dtype(self) -> np.dtype:
        return np.dtype(jax.dtypes.canonicalize_dtype(self.dtype))

    @functools.cached_property
    def is_symmetric(self) -> bool:
        """Whether all matrices are symmetric."""
        return all(map(is_symmetric, self.matrices.values()))

    def stochastic_csr(self, values: tuple) -> sp.csr_matrix:
        """Transition probabilities as CSR of float64, normalised once more: float32 rows sum to one to 1e-7 only.

        Raises
        ------
        ValueError
            If a row has no entry.
        """
        matrix = self.layout.to_csr(values, eliminate_zeros=True)
        empty = np.flatnonzero(np.diff(matrix.indptr) == 0)
        if len(empty):
            raise ValueError(
                f"Expected probabilities that sum to one in each row, found {len(empty)} rows without any, the first "
                f"for cell {empty[0]}. A kernel gives such cells a probability to stay, or the same to all neighbours."
            )
        return normalize_rows(matrix)

    def with_matrices(self, others: dict[str, sp.csr_matrix]) -> GraphData:
        """Join with further matrices; the same name must stand for the same matrix.

        Raises
        ------
        ValueError
            If a name stands for two different matrices.
        """
        for name, matrix in others.items():
            known = self.matrices.get(name)
            if known is not None and not same_matrix(known, matrix):
                raise ValueError(
                    f"Expected kernels on the same data, found two different matrices named {name!r}. "
                    "Combine kernels of one AnnData object."
                )
        new = {name: matrix for name, matrix in others.items() if name not in self.matrices}
        if not new:
            return self
        joined = self._joined(new)
        edges = {name: self._edges_of(matrix) for name, matrix in new.items()}
        found = {name: values for name, values in edges.items() if values is not None}
        if len(found) == len(new) and joined.dtype == self.dtype:
            # No entry elsewhere: the graph is the same, with more values on it.
            joined._made[self._available_dtype] = self.graph.with_edges(found), self.layout
        return joined

    def with_derived(self, name: str, derive: Callable[[], sp.csr_matrix]) -> GraphData:
        """Join with a matrix that is made of these data; once, for all kernels on them."""
        if name not in self._derived:
            self._derived[name] = self.with_matrices({name: derive()})
        return self._derived[name]

    @functools.cached_property
    def _derived(self) -> dict[str, GraphData]:
        """The data with matrices that are made of them, by their names."""
        return {}

    def _edges_of(self, matrix: sp.csr_matrix) -> Edges | None:
        """Values of a matrix on the graph; ``None`` if it has entries elsewhere."""
        values = self.values_of(matrix)
        if values is None:
            return None
        stored = self.values_of(sp.csr_matrix((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape))
        assert stored is not None
        return Edges(values, tuple(of_bucket > 0 for of_bucket in stored))

    def _joined(self, others: dict[str, sp.csr_matrix]) -> GraphData:
        return GraphData({**self.matrices, **others}, mesh=self.mesh, shard_features=self.shard_features)

    def values_of(self, matrix: sp.csr_matrix) -> tuple[jax.Array, ...] | None:
        """Bring the values of a matrix into the slots of the graph; ``None`` if it has entries elsewhere."""
        shapes = [columns.shape for columns in self.graph.columns]
        values = self.layout.to_slots(matrix, shapes, self._available_dtype)
        if values is None:
            return None
        return jax.device_put(values, None if self.mesh is None else self.graph.columns[0].sharding)

    def transitions(self, matrix: sp.csr_matrix) -> TransitionMatrix:
        """Bring a stochastic matrix onto the graph, or onto a larger one if it has entries elsewhere."""
        values = self.values_of(matrix)
        if values is not None:
            return TransitionMatrix(self.graph, values)
        joined = self._joined({_STORED: matrix}).graph
        return TransitionMatrix(joined, joined.edges[_STORED].values)

    def combined(
        self, formula: Callable[[list[TransitionFunction]], TransitionFunction], parts: Sequence[Transitions]
    ) -> Transitions:
        """Combine transition probabilities, on this graph or, if some have entries elsewhere, on a larger one.

        Parameters
        ----------
        formula
            Gives the combination of transition functions, one for each of ``parts``.
        parts
            The probabilities.
        """
        data, mask = self, self.graph.mask
        values: list[Any] = [
            part.computed.values
            if part.computed is not None and part.computed.graph.pattern is self.graph.pattern
            else self.values_of(part.matrix)
            for part in parts
        ]
        if any(value is None for value in values):
            matrices = {f"{_STORED} {i}": part.matrix for i, part in enumerate(parts)}
            data = self._joined(matrices)
            graph = data.graph
            # A cell without neighbours stays in a transition matrix. That makes no edge, as it makes none in the
            # transition function.
            own = [graph.edges[name].mask for name in self.matrices]
            mask = tuple(functools.reduce(operator.or_, bucket) for bucket in zip(*own, strict=True))
            values = [graph.edges[name].values for name in matrices]
        graph = data.graph
        edges = {f"kernel {i}": Edges(value, mask) for i, value in enumerate(values)}
        pattern = dataclasses.replace(graph.pattern, mask=mask)
        known = NeighborGraph(pattern, graph.position, edges)
        return Transitions.of_values(data, formula([Precomputed(name) for name in edges])(known).values)


_in_use: weakref.WeakSet[GraphData] = weakref.WeakSet()
"""Data of the living kernels. They hold a copy of the matrix, to which others are compared: none can be out of date."""
_lock = threading.Lock()
"""Held while these are looked through and added to, as other threads may be making kernels too."""


class Transitions:
    """Transition probabilities in two forms, of which one is made of the other.

    Parameters
    ----------
    data
        The graph.
    matrix
        Row-stochastic matrix, float64. It is taken over: its arrays become read-only, as a change of one form would not
        reach the other.
    computed
        What the matrix was made of; ``None`` for a matrix that was stored, which is brought to the graph when asked
        for.

    Attributes
    ----------
    matrix, computed
        The same.
    """

    def __init__(self, data: GraphData, matrix: sp.csr_matrix, computed: TransitionMatrix | None = None):
        for array in (matrix.data, matrix.indices, matrix.indptr):
            array.flags.writeable = False
        self._data = data
        self.matrix = matrix
        self.computed = computed

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the probabilities themselves, of which nothing changes."""
        return self

    @classmethod
    def of_values(cls, data: GraphData, values: tuple) -> Transitions:
        """Take probabilities that were computed on a graph."""
        return cls(data, data.stochastic_csr(values), TransitionMatrix(data.graph, values))

    @functools.cached_property
    def on_graph(self) -> TransitionMatrix:
        """The probabilities as a pytree on the device."""
        return self._data.transitions(self.matrix) if self.computed is None else self.computed


def on_neighbors(
    transitions: TransitionMatrix, matrix: sp.csr_matrix, graph: sp.csr_matrix, name: str | None
) -> tuple[TransitionMatrix, str]:
    """Bring transition probabilities onto a graph with the edges of given neighbours; also give their name there.

    Parameters
    ----------
    transitions, matrix
        The probabilities in both forms.
    graph
        Weights of the neighbours.
    name
        Name of these neighbours on the graph of ``transitions``, if they are there.
    """
    if name in transitions.graph.edges:
        return transitions, name
    name = "connectivities"
    return GraphData({name: graph}).transitions(matrix), name


def normalize_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Divide rows, all of them with entries, by their sums, in place."""
    sums = np.add.reduceat(matrix.data, matrix.indptr[:-1])
    matrix.data /= np.repeat(sums, np.diff(matrix.indptr))
    return matrix


def is_symmetric(matrix: sp.csr_matrix, tolerance: float = 1e-4) -> bool:
    """Whether a matrix equals its transpose, up to ``tolerance`` in the Frobenius norm, as CellRank checks."""
    transposed = matrix.tocsc()
    if np.array_equal(transposed.indptr, matrix.indptr) and np.array_equal(transposed.indices, matrix.indices):
        difference = transposed.data - matrix.data
    else:
        difference = (matrix - matrix.T).data
    # Not by `np.linalg.norm`: with it, the compiled program that follows was measured to take almost twice as long,
    # presumably as the threads of the BLAS keep the cores for a while.
    return bool(np.sum(difference**2) <= tolerance**2)


def same_matrix(a: sp.csr_matrix, b: sp.csr_matrix) -> bool:
    """Whether two matrices store the same values at the same entries."""
    return a is b or (
        a.shape == b.shape
        and all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("indptr", "indices", "data"))
    )
