"""What all kernels share: a transition matrix in two forms, the expression behind it, and arithmetic."""

from __future__ import annotations

import abc
import copy as copying
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.configuration import ignore_arguments
from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.kernels._graph_data import GraphData
from jaxvelo.transitions import Expression, Features


class KernelExpression(abc.ABC):
    """A kernel or a combination of kernels on the cells of an AnnData object.

    Kernels are combined as ``0.8 * a + 0.2 * b`` (weights are normalised to sum to one) and ``a * b`` (element by
    element, rows normalised). A weight may be an array with one value for each cell, of NumPy or JAX; or a pandas
    series, whose index must be the names of the cells (in any order) or none.
    """

    # Numbers and arrays of NumPy, and pandas' series, must leave `weight * kernel` to this class: they would take it
    # for a scalar and make an array of kernels.
    __array_ufunc__ = None
    __pandas_priority__ = 1_000_000

    @property
    @abc.abstractmethod
    def adata(self) -> AnnData:
        """Annotated data."""

    @adata.setter
    @abc.abstractmethod
    def adata(self, adata: AnnData) -> None:
        pass

    @property
    @abc.abstractmethod
    def kernels(self) -> tuple[Kernel, ...]:
        """The basic kernels, each once."""

    @property
    @abc.abstractmethod
    def backward(self) -> bool | None:
        """Direction of the process; ``None`` for kernels without one."""

    @property
    @abc.abstractmethod
    def params(self) -> dict[str, Any]:
        """Parameters that the transition matrix was computed with."""

    @property
    @abc.abstractmethod
    def transition_matrix(self) -> sp.csr_matrix | None:
        """Row-stochastic matrix of shape ``(cells, cells)``, float64."""

    @property
    @abc.abstractmethod
    def transitions(self) -> TransitionMatrix:
        """The transition matrix as a pytree on the device."""

    @property
    @abc.abstractmethod
    def expression(self) -> Expression:
        """The pure, differentiable expression: ``expression(graph, features)`` gives :attr:`transitions`."""

    @property
    @abc.abstractmethod
    def graph_data(self) -> GraphData:
        """The sparse matrices that the expression needs."""

    @property
    @abc.abstractmethod
    def features(self) -> dict[str, Features]:
        """Expression and velocity that the expression needs, by name."""

    @abc.abstractmethod
    def compute_transition_matrix(self) -> KernelExpression:
        """Compute the transition matrix and return the kernel."""

    @abc.abstractmethod
    def copy(self, *, deep: bool = False) -> KernelExpression:
        """Copy the kernel, with its AnnData object only if ``deep``."""

    @abc.abstractmethod
    def __invert__(self) -> KernelExpression:
        """Return the kernel of the opposite direction, not computed yet; a copy if there is no direction."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> KernelExpression:
        pass

    @abc.abstractmethod
    def __len__(self) -> int:
        pass

    @abc.abstractmethod
    def format(self, full: bool, computed: bool = False) -> str:
        """Name the kernel, with its parameters if ``full``; its weights as parts of their sum if ``computed``."""

    def __repr__(self) -> str:
        return self._with_direction(self.format(full=True))

    def __str__(self) -> str:
        return self._with_direction(self.format(full=False))

    def _with_direction(self, text: str) -> str:
        return f"~{text}" if self.backward else text

    @property
    def graph(self) -> NeighborGraph:
        """The graph that the expression needs."""
        return self.graph_data.graph

    @property
    def shape(self) -> tuple[int, int]:
        """``(cells, cells)``."""
        return self.adata.n_obs, self.adata.n_obs

    def require_transitions(self) -> sp.csr_matrix:
        """Return the transition matrix, which must have been computed."""
        matrix = self.transition_matrix
        if matrix is None:
            raise RuntimeError("Compute transition matrix first as `.compute_transition_matrix()`.")
        return matrix

    def __add__(self, other: Any) -> KernelExpression:
        from jaxvelo.kernels._combination import add

        return add(self, other) if isinstance(other, KernelExpression) else NotImplemented

    def __mul__(self, other: Any) -> KernelExpression:
        from jaxvelo.kernels._combination import multiply, read_weight, scale

        if isinstance(other, KernelExpression):
            return multiply(self, other)
        weight = read_weight(other, self.adata)
        return NotImplemented if weight is None else scale(self, weight)

    def __rmul__(self, other: Any) -> KernelExpression:
        return self.__mul__(other)

    def cbc(self, source: str, target: str, cluster_key: str, rep: str, graph_key: str = "distances") -> np.ndarray:
        """Cross-boundary correctness from one cluster to another.

        Parameters
        ----------
        source, target
            Names of the clusters.
        cluster_key
            Key in ``adata.obs`` with the clusters.
        rep
            Key in ``adata.obsm`` with the representation of the cells, such as ``"X_pca"``.
        graph_key
            Key in ``adata.obsp`` of the graph, or name in ``adata.uns`` of the neighbours, that decides which source
            cells are at the boundary.

        Returns
        -------
        For each source cell with a neighbour in the target, the correlation of the expected displacement under the
        kernel with the displacement towards these neighbours.
        """
        from jaxvelo.kernels._boundary import cross_boundary_correctness

        return cross_boundary_correctness(self, source, target, cluster_key, rep, graph_key)

    def add_projection(
        self,
        basis: str = "umap",
        key_added: str | None = None,
        recompute: bool = False,
        connectivities: Any = None,
    ) -> None:
        """Project the transition matrix onto an embedding, without a picture.

        Parameters
        ----------
        basis, key_added, recompute, connectivities
            As of :meth:`plot_projection`.
        """
        from jaxvelo.kernels._projection import add_projection

        add_projection(self, basis, key_added, recompute, connectivities)

    def plot_projection(
        self,
        basis: str = "umap",
        key_added: str | None = None,
        recompute: bool = False,
        stream: bool = True,
        connectivities: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Project the transition matrix onto an embedding and plot it.

        Parameters
        ----------
        basis
            Embedding ``adata.obsm["X_{basis}"]``.
        key_added
            The arrows go to ``adata.obsm["{key_added}_{basis}"]``; ``"T_fwd"`` or ``"T_bwd"`` if ``None``.
        recompute
            Whether to compute the arrows anew if they are there. Stored arrows that are not those of this kernel in
            this embedding are replaced, with a warning, under a default key; under another they are an error.
        stream
            Whether to draw a stream plot; a grid of arrows otherwise.
        connectivities
            Matrix whose entries are summed over; those of the underlying kernels if ``None``.
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.projection_stream` or :func:`jaxvelo.pl.projection_grid`.
        """
        from jaxvelo.kernels._projection import plot_projection

        return plot_projection(self, basis, key_added, recompute, stream, connectivities, **kwargs)

    def plot_random_walks(
        self,
        n_sims: int = 100,
        max_iter: int | float = 0.25,
        seed: int | jax.Array | None = None,
        successive_hits: int = 0,
        start_ixs: Any = None,
        stop_ixs: Any = None,
        basis: str = "umap",
        cmap: Any = "gnuplot",
        linewidth: float = 1.0,
        linealpha: float = 0.3,
        ixs_legend_loc: str | None = None,
        n_jobs: Any = None,
        backend: Any = None,
        show_progress_bar: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Simulate random walks and plot them in an embedding.

        Parameters
        ----------
        n_sims
            Number of walks.
        max_iter
            Largest number of steps; as a fraction, of the number of cells.
        seed
            Random seed or key.
        successive_hits
            How many further cells in ``stop_ixs`` in a row end a walk.
        start_ixs
            Where walks start: indices, names or a mask of cells, ``{"clusters": "Ngn3 low EP"}`` or
            ``{"pseudotime": [0, 0.1]}``; all cells if ``None``.
        stop_ixs
            Where walks end, likewise; nowhere if ``None``.
        basis
            Embedding ``adata.obsm["X_{basis}"]``.
        cmap, linewidth, linealpha, ixs_legend_loc
            Colours along the walks, looks of the lines, and place of the legend of starts and ends.
        n_jobs, backend, show_progress_bar
            Accepted as by CellRank; without effect.
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.random_walks`.
        """
        from jaxvelo.kernels._random_walks import plot_random_walks

        ignore_arguments(n_jobs=n_jobs, backend=backend, show_progress_bar=show_progress_bar)
        simulation = n_sims, max_iter, seed, successive_hits, start_ixs, stop_ixs
        looks = {"cmap": cmap, "linewidth": linewidth, "linealpha": linealpha, "ixs_legend_loc": ixs_legend_loc}
        return plot_random_walks(self, *simulation, basis=basis, **looks, **kwargs)

    def plot_single_flow(
        self,
        cluster: str,
        cluster_key: str,
        time_key: str,
        clusters: Sequence[Any] | None = None,
        time_points: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Plot the flow out of a cluster over experimental time (Mittnenzweig et al. 2021).

        Parameters
        ----------
        cluster
            The cluster that the flow leaves.
        cluster_key, time_key
            Keys in ``adata.obs`` of clusters and experimental time.
        clusters, time_points
            Restrict to these; all if ``None``.
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.single_flow`.
        """
        from jaxvelo.kernels._flow import plot_single_flow

        return plot_single_flow(self, cluster, cluster_key, time_key, clusters, time_points, **kwargs)

    def write_to_adata(self, key: str | None = None, copy: bool = False) -> None:
        """Write transition matrix and parameters to :attr:`adata`, where CellRank finds them too.

        Parameters
        ----------
        key
            Key in ``adata.obsp``, and with ``"_params"`` in ``adata.uns``; ``"T_fwd"`` or ``"T_bwd"`` if ``None``.
        copy
            Whether to copy the matrix.
        """
        from jaxvelo.kernels._annotated import write_to_adata

        write_to_adata(self, key, copy)

    def write(self, fname: str | os.PathLike, write_adata: bool = True) -> None:
        """Write to one ``.npz`` file without pickled objects.

        Parameters
        ----------
        fname
            The file, replaced if it is there.
        write_adata
            Whether to include :attr:`adata`.
        """
        from jaxvelo.kernels._files import write

        write(self, fname, write_adata)

    @staticmethod
    def read(fname: str | os.PathLike, adata: AnnData | None = None, copy: bool = False) -> KernelExpression:
        """Read a file that :meth:`write` wrote.

        Parameters
        ----------
        fname
            The file.
        adata
            AnnData object for a file without one.
        copy
            Whether to copy it.
        """
        from jaxvelo.kernels._files import read

        return read(fname, adata, copy)


class Kernel(KernelExpression):
    """A basic kernel: it reads from AnnData what it needs, and computes a transition matrix of its own.

    Parameters
    ----------
    adata
        Annotated data.
    graph_data
        The sparse matrices of the kernel.
    init
        Arguments that the kernel was made with, to store.
    """

    def __init__(self, adata: AnnData, graph_data: GraphData, init: dict[str, Any]):
        self._adata = adata
        self._graph_data = graph_data
        self.init = init
        self._params: dict[str, Any] = {}
        self._matrix: sp.csr_matrix | None = None
        self._transitions: TransitionMatrix | None = None

    @property
    def adata(self) -> AnnData:
        """Annotated data."""
        return self._adata

    @adata.setter
    def adata(self, adata: AnnData) -> None:
        if not isinstance(adata, AnnData):
            raise TypeError(f"Expected `adata` to be an AnnData object, found `{type(adata).__name__}`.")
        if adata.n_obs != self.shape[0]:
            raise ValueError(f"Expected `adata` with {self.shape[0]} cells, found {adata.n_obs}.")
        names, others = self._adata.obs_names, adata.obs_names
        if not names.equals(others) and set(names) == set(others):
            raise ValueError(
                "Expected `adata` with the cells in the order of the kernel, found them in another. Pass "
                "`adata[kernel.adata.obs_names]`."
            )
        self._adata = adata

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernel itself."""
        return (self,)

    @property
    def params(self) -> dict[str, Any]:
        """Parameters that the transition matrix was computed with."""
        return self._params

    @property
    def graph_data(self) -> GraphData:
        """The sparse matrices that the expression needs."""
        return self._graph_data

    @property
    def features(self) -> dict[str, Features]:
        """No features: the kernel uses the graph alone."""
        return {}

    @property
    def transition_matrix(self) -> sp.csr_matrix | None:
        """Row-stochastic matrix of shape ``(cells, cells)``, float64; ``None`` before it is computed."""
        return self._matrix

    @property
    def transitions(self) -> TransitionMatrix:
        """The transition matrix as a pytree on the device."""
        if self._transitions is None:
            self._transitions = self.graph_data.transitions(self.require_transitions())
        return self._transitions

    def set_transitions(self, transitions: TransitionMatrix, params: dict[str, Any]) -> None:
        """Take a result on the kernel's own graph."""
        matrix = self.graph_data.stochastic_csr(transitions.values)
        n_invalid = int(np.count_nonzero(~np.isfinite(matrix.data)))
        if n_invalid:
            raise ValueError(
                f"Expected finite transition probabilities, found {n_invalid} that are not, with {params}. "
                "A similarity of your own must be finite for cells in the same place and for zero velocities too; for "
                "the built-in ones, expression, velocity, weights or `softmax_scale` are too large."
            )
        self._transitions, self._matrix, self._params = transitions, matrix, params

    def restore(self, matrix: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Take a stored result, unchanged to the last bit."""
        self._transitions, self._matrix, self._params = None, matrix, params

    def copy(self, *, deep: bool = False) -> Kernel:
        """Copy the kernel, with its AnnData object only if ``deep``."""
        other = copying.copy(self)
        other._params, other.init = dict(self._params), dict(self.init)
        if self._matrix is not None:
            other._matrix = self._matrix.copy()
        if deep:
            other._adata = self._adata.copy()
        return other

    def __invert__(self) -> Kernel:
        return self.copy()

    def __getitem__(self, index: int) -> Kernel:
        if index != 0:
            raise IndexError(index)
        return self

    def __len__(self) -> int:
        return 1

    def format(self, full: bool, computed: bool = False) -> str:
        """Name the kernel, with its parameters if ``full``."""
        shown = self.params.items() if full else ()
        parameters = ", ".join([f"n={self.shape[0]}", *(f"{k}={format_value(v)}" for k, v in shown)])
        return f"{type(self).__name__}[{parameters}]"

    @classmethod
    def from_adata(cls, adata: AnnData, key: str, copy: bool = False) -> Kernel:
        """Read a kernel that was written by :meth:`write_to_adata`, here or in CellRank.

        Parameters
        ----------
        adata
            Annotated data.
        key
            Key in ``adata.obsp``, and with ``"_params"`` in ``adata.uns``.
        copy
            Whether to copy the matrix.
        """
        from jaxvelo.kernels._annotated import kernel_from_adata

        return kernel_from_adata(cls, adata, key, copy)


def format_value(value: Any) -> str:
    """Write a parameter; of an array, its median and its range."""
    if isinstance(value, np.ndarray):
        return f"{np.median(value):.3g} ({value.min():.3g} to {value.max():.3g})"
    return repr(round(value, 3) if isinstance(value, float) else value)
