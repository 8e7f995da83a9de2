"""Transition probabilities between experimental time points, by couplings of their cells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import is_number
from jaxvelo.annotated.arrays import read_representation
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.clones import read_clones
from jaxvelo.annotated.entries import read_numbers, require_anndata
from jaxvelo.annotated.progress_bar import watched
from jaxvelo.configuration import timed
from jaxvelo.kernels._couplings import (
    Couplings,
    check_pairs,
    check_threshold,
    read_couplings,
    sparse_couplings,
    stitched,
)
from jaxvelo.kernels._graph_data import GraphData, normalize_rows
from jaxvelo.kernels._kernel import Kernel
from jaxvelo.kernels._steps_within_times import identity_within, similarities_within, uniform_within
from jaxvelo.kernels._time_points import read_time_points
from jaxvelo.kernels._transport import TimePair, best_on_clones, transported
from jaxvelo.transitions import RealTime

POLICIES = ("sequential", "triu")
SELF_TRANSITIONS = ("uniform", "diagonal", "connectivities", "all")
_PARAMETERS = ("threshold", "self_transitions", "conn_weight")


class RealTimeKernel(Kernel):
    r"""Kernel of experimental time: cells go to those of later time points to which they are coupled.

    .. math:: T_{ij} \propto (1 - w) K_{ij} + w W_{ij}

    with couplings :math:`K` to later time points and steps :math:`W` to similar cells of the same time point; see
    :class:`jaxvelo.transitions.RealTime`.

    Parameters
    ----------
    adata
        Annotated data.
    time_key
        Column of the time points in ``adata.obs``: ordered categories, or anything that reads as numbers.
    couplings
        By pairs of time points, such as ``(2, 4)``, what the cells of the first have to do with those of the second:
        a matrix, dense or sparse, of NumPy, SciPy or JAX, in the order of the cells; or a table or an AnnData object
        with the names of the cells, in any order. Dense ones stay as they are until they are made sparse.
    policy
        What :meth:`compute_couplings` couples where ``couplings`` is None: ``"sequential"``, each time point to the
        next one; ``"triu"``, to all later ones.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If a cell has no time, the order of the time points is not known, a time point but the last has no coupling to a
        later one, or couplings are of other cells, negative or not finite.

    References
    ----------
    Schiebinger et al., Optimal-transport analysis of single-cell gene expression identifies developmental trajectories
    in reprogramming, Cell 2019. Lange et al., Mapping lineage-traced cells across time points with moslin, Genome Biol.
    2024.

    Examples
    --------
    >>> adata.obs["day"] = np.where(adata.obs["true_time"] < 12, 1, 2)
    >>> early, late = ((adata.obs["day"] == day).sum() for day in (1, 2))
    >>> kernel = jv.kernels.RealTimeKernel(adata, "day", couplings={(1, 2): np.ones((early, late))})
    >>> kernel.compute_transition_matrix(threshold=None, conn_kwargs={"conn_key": "connectivities"})
    RealTimeKernel[n=150, threshold=None, self_transitions='connectivities', conn_weight=None]
    """

    def __init__(
        self,
        adata: AnnData,
        time_key: str,
        couplings: Mapping[tuple[Any, Any], Any] | None = None,
        policy: str = "sequential",
    ):
        require_anndata(adata)
        if policy not in POLICIES:
            raise ValueError(f"Expected `policy` to be one of {POLICIES}, found `{policy!r}`.")
        self._times = read_time_points(adata, time_key)
        n_times = len(self._times.names)
        if couplings is None:
            self._pairs = [
                (i, j) for i in range(n_times) for j in range(i + 1, n_times) if policy == "triu" or j == i + 1
            ]
            check_pairs(self._pairs, self._times)
            self._couplings: Couplings | None = None
        else:
            self._couplings = read_couplings(couplings, adata, self._times)
            self._pairs = list(self._couplings)
        empty = sp.csr_matrix((adata.n_obs, adata.n_obs))
        super().__init__(adata, GraphData({"no couplings yet": empty}), {"time_key": time_key, "policy": policy})
        self._names: tuple[str, str] | None = None

    @classmethod
    def from_moscot(
        cls,
        problem: Any,
        sparse_mode: str | None = None,
        sparsify_kwargs: Mapping[str, Any] = MappingProxyType({}),
        copy: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Make a kernel of a problem that moscot has solved.

        Parameters
        ----------
        problem
            The problem, of time, lineages or space and time.
        sparse_mode, sparsify_kwargs
            How moscot is to make its couplings sparse; not at all if ``None``.
        copy
            Without effect: couplings are not changed.
        kwargs
            Arguments of the kernel.

        Returns
        -------
        The kernel, with :attr:`couplings`, not computed.

        Raises
        ------
        RuntimeError
            If the problem has not been solved.

        Examples
        --------
        >>> kernel = jv.kernels.RealTimeKernel.from_moscot(problem)  # solved by `problem.solve()`
        >>> list(kernel.couplings)
        [(1, 2)]
        """
        if not problem.solutions:
            raise RuntimeError("Problem contains no solutions. Please run `problem.solve(...)` first.")
        couplings = {}
        for (source, target), solution in problem.solutions.items():
            if sparse_mode is not None:
                solution = solution.sparsify(mode=sparse_mode, **sparsify_kwargs)
            part = problem[source, target]
            matrix = solution.transport_matrix
            matrix = matrix if sp.issparse(matrix) else np.asarray(matrix)
            couplings[source, target] = _named(matrix, part.adata_src.obs_names, part.adata_tgt.obs_names)
        return cls(problem.adata, problem.temporal_key, couplings=couplings, **kwargs)

    @classmethod
    def from_wot(cls, adata: AnnData, path: str | os.PathLike, time_key: str, **kwargs: Any) -> Self:
        """Make a kernel of the transport maps that Waddington-OT wrote.

        Parameters
        ----------
        adata
            Annotated data.
        path
            Folder of the maps, files whose names end in ``_SOURCE_TARGET.h5ad``.
        time_key
            Column of the time points in ``adata.obs``.
        kwargs
            Further arguments of the kernel.

        Returns
        -------
        The kernel, with :attr:`couplings`, not computed.

        Raises
        ------
        FileNotFoundError
            If there are none.

        Examples
        --------
        >>> adata.obs["day"] = np.where(adata.obs["true_time"] < 12, "1", "2")
        >>> early, late = (adata.obs[adata.obs["day"] == day][[]] for day in ("1", "2"))
        >>> anndata.AnnData(np.ones((len(early), len(late))), early, late).write_h5ad("map_1_2.h5ad")
        >>> list(jv.kernels.RealTimeKernel.from_wot(adata, ".", time_key="day").couplings)
        [('1', '2')]
        """
        files = sorted(Path(path).glob("*_*_*.h5ad"))
        if not files:
            raise FileNotFoundError(f"Expected transport maps named `..._SOURCE_TARGET.h5ad` in `{path}`, found none.")
        couplings = {}
        for file in files:
            _, source, target = file.stem.rsplit("_", 2)
            couplings[source, target] = anndata.read_h5ad(file)
        return cls(adata, time_key, couplings=couplings, **kwargs)

    @property
    def time(self) -> pd.Series:
        """Time point of each cell, as ordered categories."""
        categories = pd.Categorical.from_codes(self._times.number, self._times.names, ordered=True)
        return pd.Series(categories, index=self.adata.obs_names, name=self._times.key)

    @property
    def couplings(self) -> dict[tuple[Any, Any], Any] | None:
        """Couplings by pairs of time points, rows and columns in the order of the cells. None before they are known."""
        if self._couplings is None:
            return None
        names = self._times.names
        return {(names[source], names[target]): of_pair for (source, target), of_pair in self._couplings.items()}

    def compute_transition_matrix(
        self,
        threshold: float | str | None = "auto",
        self_transitions: str | Sequence[Any] = "connectivities",
        conn_weight: float | None = None,
        conn_kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> Self:
        """Compute the transition matrix.

        Parameters
        ----------
        threshold
            What is left out of dense couplings: numbers below the largest threshold that leaves each row of all of them
            a number (``"auto"``), the same of each coupling by itself (``"auto_local"``), a percentage of the numbers,
            or none (``None``). Rows without any become uniform, with a warning.
        self_transitions
            Where cells of the last time point go: to each other with equal probability (``"uniform"``), nowhere
            (``"diagonal"``), or to similar cells (``"connectivities"``). ``"all"``, or a list of time points: those of
            these time points, too, go to similar cells of the same time point, with the probability ``conn_weight``.
        conn_weight
            Weight of steps within a time point, between 0 and 1.
        conn_kwargs
            How similar cells are found: arguments of :func:`jaxvelo.pp.neighbors`, which is called for the cells of
            each time point, with 15 neighbours by default; or ``{"conn_key": KEY}`` for a graph of neighbours that is
            there already, of which edges between time points are left out. ``density_normalize`` is that of a
            :class:`ConnectivityKernel`.

        Returns
        -------
        The kernel, with :attr:`transition_matrix` and :attr:`params` updated.

        Raises
        ------
        TypeError, ValueError
            If an argument is not one of the above.

        Examples
        --------
        >>> adata.obs["day"] = np.where(adata.obs["true_time"] < 12, 1, 2)
        >>> early, late = ((adata.obs["day"] == day).sum() for day in (1, 2))
        >>> kernel = jv.kernels.RealTimeKernel(adata, "day", couplings={(1, 2): np.ones((early, late))})
        >>> kernel.compute_transition_matrix(threshold=None, self_transitions="diagonal").transition_matrix.shape
        (150, 150)
        """
        check_threshold(threshold)
        times = self._times
        last = len(times.names) - 1
        mixed = self._mixed(self_transitions)
        if mixed is not None and not (is_number(conn_weight) and 0 < conn_weight < 1):  # type: ignore[operator]
            raise ValueError(f"Expected `conn_weight` to be in interval `(0, 1)`, found `{conn_weight!r}`.")
        named = self_transitions if isinstance(self_transitions, str) else str(list(self_transitions))
        weight = None if mixed is None else float(conn_weight)  # type: ignore[arg-type]
        params = {
            "threshold": threshold if threshold is None or isinstance(threshold, str) else float(threshold),
            "self_transitions": named,
            "conn_weight": weight,
        }
        with timed("Computing transition matrix based on couplings of time points"):
            if self._couplings is None:
                self.compute_couplings()
            assert self._couplings is not None
            couplings = sparse_couplings(self._couplings, threshold, times)
            transport = stitched(couplings, times, mixed or frozenset())
            if named == "diagonal":
                within = identity_within(times, last)
            elif named == "uniform":
                within = uniform_within(times, last)
            else:
                within = similarities_within(self.adata, times, sorted({*(mixed or ()), last}), conn_kwargs)
            self._put_on_graph(transport, within)
            self._mix(transport, within, params)
        return self

    def compute_couplings(
        self,
        use_rep: str = "X_pca",
        epsilon: float = 0.05,
        tau_a: float = 1.0,
        tau_b: float = 1.0,
        growth: str | None = None,
        clones: str | None = None,
    ) -> Self:
        r"""Compute couplings by entropic optimal transport, which needs the extra ``ot``.

        .. math:: \min_P \sum_{ij} P_{ij} C_{ij} - \epsilon H(P)
            + \tfrac{\epsilon \tau_a}{1 - \tau_a} \mathrm{KL}(P 1 | a)
            + \tfrac{\epsilon \tau_b}{1 - \tau_b} \mathrm{KL}(P^\top 1 | b)

        with squared Euclidean distances as costs :math:`C`, in units of their mean, and masses :math:`a` of the earlier
        and :math:`b` of the later cells.

        Parameters
        ----------
        use_rep
            Key of a representation in ``adata.obsm``, in which cells go short ways.
        epsilon
            How much the couplings are spread out, in units of the mean squared distance.
        tau_a, tau_b
            How much the masses of earlier and of later cells are held, above 0; with 1 they are kept.
        growth
            Column of ``adata.obs`` with the growth of each cell in a unit of time, positive: as many descendants has a
            cell, and so much mass, raised to the power of the time between the time points. All alike if ``None``.
        clones
            Key of clones in ``adata.obsm`` (cells by clones) or ``adata.obs`` (one for each cell, missing where
            unknown): ``epsilon`` and ``tau_a`` are chosen by how likely cells go to later cells of their own clones.

        Returns
        -------
        The kernel, with :attr:`couplings`; a transition matrix that it has is left out.

        Raises
        ------
        ImportError
            If ott-jax is not installed.
        KeyError
            If a key is missing.
        ValueError
            If an argument is out of its range, or there are too many pairs of cells.

        References
        ----------
        Cuturi (2013); Chizat et al. (2018); Schiebinger et al. (2019).

        Examples
        --------
        >>> adata.obs["day"] = np.where(adata.obs["true_time"] < 12, 1, 2)
        >>> kernel = jv.kernels.RealTimeKernel(adata, "day").compute_couplings(use_rep="X_umap")
        >>> list(kernel.couplings)
        [(1, 2)]
        """
        for name, value, most in (("epsilon", epsilon, np.inf), ("tau_a", tau_a, 1.0), ("tau_b", tau_b, 1.0)):
            if not (is_number(value) and 0 < value <= most and np.isfinite(value)):
                upper = "" if most == np.inf else f" and at most {most:g}"
                raise ValueError(f"Expected `{name}` to be positive{upper}, found `{value!r}`.")
        x = read_representation(self.adata, use_rep, "Pass the key of a representation as `use_rep`.")
        rates = np.ones(self.shape[0])
        if growth is not None:
            rates = read_numbers(self.adata.obs, growth, "adata.obs", "Pass the key of the cells' growth.")
            if not (np.isfinite(rates).all() and (rates > 0).all()):
                raise ValueError(f"Expected positive and finite growth in `adata.obs[{growth!r}]`. Fill in the others.")
        of_clones = None if clones is None else read_clones(self.adata, clones)
        pairs = [self._pair(*pair, x, rates, of_clones) for pair in self._pairs]
        with timed("Computing couplings of time points by optimal transport"):
            if clones is not None:
                epsilon, tau_a = best_on_clones(pairs, tau_b)
            watch = watched(pairs, len(pairs), "Couplings", "pairs of time points")
            found = [transported(pair, epsilon, tau_a, tau_b) for pair in watch]
        self._couplings = dict(zip(self._pairs, found, strict=True))
        self._params, self._result, self._names = {}, None, None
        return self

    def _pair(self, source: int, target: int, x: np.ndarray, rates: np.ndarray, clones: Any) -> TimePair:
        times = self._times
        first, second = times.cells[source], times.cells[target]
        duration = 1.0 if times.numeric is None else times.numeric[target] - times.numeric[source]
        mass = rates[first] ** duration
        futures = None if clones is None else sp.csr_matrix(clones[first] @ clones[second].T > 0)
        return TimePair(x[first], x[second], mass / mass.sum(), futures, times.pair(source, target))

    def _mixed(self, self_transitions: Any) -> frozenset[int] | None:
        """Time points whose cells go to each other as well; ``None`` if only those of the last one do."""
        if isinstance(self_transitions, str):
            if self_transitions not in SELF_TRANSITIONS:
                raise ValueError(
                    f"Expected `self_transitions` to be one of {SELF_TRANSITIONS} or a list of time points, found "
                    f"`{self_transitions!r}`."
                )
            return frozenset(source for source, _ in self._pairs) if self_transitions == "all" else None
        if not isinstance(self_transitions, Sequence | np.ndarray | pd.Index):
            raise TypeError(
                f"Expected `self_transitions` to be a `str` or a `Sequence`, found `{type(self_transitions).__name__}`."
            )
        chosen = {self._times.find(name) for name in self_transitions}
        return frozenset(chosen & {source for source, _ in self._pairs})

    def _mix(self, transport: sp.csr_matrix, within: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Compute the transition matrix on the host: each threshold makes another pattern, which would be compiled."""
        weight = 0.5 if params["conn_weight"] is None else params["conn_weight"]
        matrix = sp.csr_matrix((1 - weight) * transport + weight * within)
        matrix.sort_indices()
        super().restore(normalize_rows(matrix), params)

    def _put_on_graph(self, transport: sp.csr_matrix, within: sp.csr_matrix) -> None:
        """Make the graph of the two parts, with names that tell them from others."""
        for matrix in (transport, within):
            matrix.sort_indices()
            for array in (matrix.data, matrix.indices, matrix.indptr):
                array.flags.writeable = False
        parts = {}
        for name, matrix in (("transport", transport), ("within", within)):
            parts[f"{name}:{checksum(matrix.indptr, matrix.indices, matrix.data):08x}"] = matrix
        first, second = parts
        self._graph_data, self._names = GraphData(parts), (first, second)

    @property
    def backward(self) -> None:
        """No direction of its own: couplings lead to later time points."""

    @property
    def transition_function(self) -> RealTime:
        """The pure transition function with the parameters in use.

        Raises
        ------
        RuntimeError
            If the transition matrix was not computed.
        """
        if self._names is None:
            raise RuntimeError("Compute transition matrix first as `.compute_transition_matrix()`.")
        transport, within = self._names
        return RealTime(self.params.get("conn_weight"), transport=transport, within=within)

    def with_numbers(self, numbers: Mapping[str, float]) -> Self:
        """Return a copy with another ``conn_weight``, computed."""
        other = self.copy()
        transport, within = self.graph_data.matrices.values()
        other._mix(transport, within, {**self.params, "conn_weight": float(numbers["conn_weight"])})
        return other

    def restore(self, matrix: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Take a stored result, unchanged to the last bit; couplings and steps are what it holds of them."""
        known = {name: params.get(name) for name in _PARAMETERS}
        rows = matrix.tocoo()
        is_within = self._times.number[rows.row] == self._times.number[rows.col]
        shares = np.bincount(rows.row, rows.data * is_within, minlength=matrix.shape[0])
        both = (shares > 0) & (shares < 1)
        weight = known["conn_weight"]
        values = rows.data.copy()
        if weight is not None:
            # What, weighted and normalised, is the row: steps that sum to one, and couplings to match.
            factors = np.where(is_within, 1 / np.where(both, shares, 1)[rows.row], 1)
            to_match = weight / ((1 - weight) * np.where(both, shares, 1)[rows.row])
            values *= np.where(both[rows.row], np.where(is_within, factors, to_match), 1)
        parts = [
            sp.csr_matrix((values[of], (rows.row[of], rows.col[of])), shape=matrix.shape)
            for of in (~is_within, is_within)
        ]
        self._put_on_graph(*parts)
        super().restore(matrix, known)

    @classmethod
    def recognizes(cls, init: dict[str, Any]) -> bool:
        """Whether CellRank stores these arguments for a kernel of this class."""
        return "time_key" in init and "backward" not in init


def _named(matrix: Any, source: pd.Index, target: pd.Index) -> AnnData:
    return AnnData(matrix, obs=pd.DataFrame(index=source), var=pd.DataFrame(index=target))
