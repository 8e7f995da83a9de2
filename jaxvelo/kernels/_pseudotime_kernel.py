"""Transition probabilities along a pseudotime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import jax
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from scipy.sparse.csgraph import connected_components

from jaxvelo.annotated.arguments import is_number
from jaxvelo.annotated.entries import read_numbers, require_anndata
from jaxvelo.configuration import ignore_arguments, logger, timed
from jaxvelo.kernels._neighbor_kernel import NeighborKernel
from jaxvelo.kernels._user_functions import check_traceable, name_of_choice, require_built_in
from jaxvelo.transitions import SCHEMES, Pseudotime, in_parts, strength_order

_PARAMETERS = ("dnorm", "scheme", "frac_to_keep", "b", "nu")
_REWRITE = (
    "Write it as a JAX function of the time of a cell, the times of its neighbours and their connectivities, shapes () "
    "and twice (neighbors,), that returns weights, shape (neighbors,), for example `lambda time, neighbor_times, "
    "connectivities: connectivities * jnp.exp(neighbor_times - time)`. One that was written for CellRank needs "
    "`jax.numpy` in place of `numpy`, and `jnp.where` in place of indices."
)


class PseudotimeKernel(NeighborKernel):
    r"""Kernel of similarities among cells that prefers cells later in a pseudotime.

    Edges to earlier cells are left out but the strongest (after Palantir), or get less weight,

    .. math:: T_{ij} \propto C_{ij} \, 2 \, (1 + e^{b (t_i - t_j)})^{-1 / \nu}, \qquad t_j < t_i,

    with the weights :math:`C` of the neighbour graph and the pseudotime :math:`t` (after VIA); see
    :class:`jaxvelo.transitions.Pseudotime`.

    Parameters
    ----------
    adata
        Annotated data with a pseudotime and neighbours.
    time_key
        Column of the pseudotime in ``adata.obs``.
    backward
        Direction of the process: whether cells go towards earlier times.
    conn_key
        Key of the neighbour graph in ``adata.obsp``, or name of the neighbours in ``adata.uns``; None for
        ``"connectivities"``.
    check_connectivity
        Whether to check that the graph is connected.

    Raises
    ------
    KeyError
        If there is no such column or graph.
    ValueError
        If a time is missing or not finite, all cells have the same time, or weights are negative or not finite.
    TypeError
        If ``backward`` is not ``bool``.

    References
    ----------
    Setty et al., Characterization of cell fate probabilities in single-cell data with Palantir, Nat. Biotechnol. 2019.
    Stassen et al., Generalized and scalable trajectory inference in single-cell omics data with VIA, Nat. Commun. 2021.

    Examples
    --------
    >>> pk = jv.kernels.PseudotimeKernel(adata, time_key="true_time").compute_transition_matrix()
    >>> pk.transition_matrix.shape
    (150, 150)
    """

    def __init__(
        self,
        adata: AnnData,
        time_key: str,
        backward: bool = False,
        conn_key: str | None = "connectivities",
        check_connectivity: bool = False,
    ):
        require_anndata(adata)
        if not isinstance(backward, (bool, np.bool_)):
            raise TypeError(f"Expected `backward` to be `bool`, found `{type(backward).__name__}`.")
        super().__init__(adata, {}, conn_key, check_connectivity)
        # Held, as other kernels on the same graph are found by it.
        self._neighbors = self._graph_data
        self._time_key = time_key
        self._backward = bool(backward)
        self.init = {"time_key": time_key, "backward": self._backward}
        if self.conn_key != "connectivities":
            self.init["conn_key"] = self.conn_key
        self._time = self._read_time()
        self._function: Callable[..., jax.Array] | None = None

    def _read_time(self) -> np.ndarray | None:
        """The pseudotime, checked; ``None`` if it is still to be computed."""
        remedy = "Pass the key of a pseudotime, for example of `jaxvelo.tl.velocity_pseudotime(adata)`."
        return checked_time(read_numbers(self.adata.obs, self._time_key, "adata.obs", remedy), self._time_key)

    @property
    def pseudotime(self) -> np.ndarray | None:
        """The pseudotime; of a backward process, what is left of it to the last cell. None before it is computed."""
        if self._time is None:
            return None
        return self._time.max() - self._time if self._backward else self._time.copy()

    def compute_transition_matrix(
        self,
        threshold_scheme: Any = "hard",
        frac_to_keep: float = 0.3,
        b: float = 10.0,
        nu: float = 0.5,
        check_irreducibility: bool = False,
        n_jobs: Any = None,
        backend: Any = None,
        show_progress_bar: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Compute the transition matrix.

        Parameters
        ----------
        threshold_scheme
            ``"hard"``: leave out edges to earlier cells but the strongest. ``"soft"``: give them less weight, the less
            the earlier. See :class:`jaxvelo.transitions.Pseudotime`. Or a JAX function ``(time, neighbor_times,
            connectivities) -> weights`` of one cell, with shapes ``(), (neighbors,), (neighbors,) -> (neighbors,)``,
            as CellRank calls it; it also gets padding, with the cell's own time and the connectivity zero.
        frac_to_keep
            Fraction of the neighbours, the strongest, at most 30, that are kept whatever their time, for ``"hard"``.
        b, nu
            Growth rate and shape of the loss of weight, positive, for ``"soft"``.
        check_irreducibility
            Whether to check that each cell can be reached from each other one; if not, that is a warning.
        n_jobs, backend, show_progress_bar
            Of CellRank, without effect.
        kwargs
            Further arguments of a function.

        Returns
        -------
        The kernel, with :attr:`transition_matrix` and :attr:`params` updated.

        Raises
        ------
        RuntimeError
            If there is no pseudotime yet.
        TypeError
            If a function cannot be traced by JAX, or returns another shape.
        ValueError
            If an argument is out of its range, or probabilities are not finite.

        Examples
        --------
        >>> pk = jv.kernels.PseudotimeKernel(adata, time_key="true_time")
        >>> pk.compute_transition_matrix(threshold_scheme="soft", b=10.0, nu=0.5).params["b"]
        10.0
        """
        ignore_arguments(n_jobs=n_jobs, backend=backend, show_progress_bar=show_progress_bar)
        self._require_time()
        function = None
        if isinstance(threshold_scheme, str):
            if threshold_scheme not in SCHEMES:
                raise ValueError(
                    f"Expected `threshold_scheme` to be one of {SCHEMES} or a function, found `{threshold_scheme!r}`."
                )
            if kwargs:
                raise TypeError(f"Unexpected arguments {sorted(kwargs)} of the scheme `{threshold_scheme!r}`.")
        elif callable(threshold_scheme):
            function = partial(threshold_scheme, **kwargs) if kwargs else threshold_scheme
            dtype = self.graph.edges[self.conn_key].values[0].dtype
            one, three = jax.ShapeDtypeStruct((), dtype), jax.ShapeDtypeStruct((3,), dtype)
            check_traceable(function, (one, three, three), "threshold scheme", _REWRITE)
        else:
            raise TypeError(
                f"Expected `threshold_scheme` to be one of {SCHEMES} or a function, "
                f"found `{type(threshold_scheme).__name__}`."
            )
        params: dict[str, Any] = {"dnorm": False, "scheme": name_of_choice(threshold_scheme, SCHEMES)}
        if threshold_scheme == "hard":
            if not (is_number(frac_to_keep) and 0 <= frac_to_keep <= 1):
                raise ValueError(f"Expected `frac_to_keep` to be from 0 to 1, found `{frac_to_keep!r}`.")
            params["frac_to_keep"] = float(frac_to_keep)
        elif threshold_scheme == "soft":
            for name, value in (("b", b), ("nu", nu)):
                if not (is_number(value) and np.isfinite(value) and value > 0):
                    raise ValueError(f"Expected `{name}` to be positive and finite, found `{value!r}`.")
                params[name] = float(value)
        with timed("Computing transition matrix based on pseudotime"):
            self._put_in_order(params)
            self.set_transitions(self._transition_function(params, function)(self.graph, self.features), params)
            self._function = function
            assert self.transition_matrix is not None
            warn_about_connections(self.transition_matrix, bool(check_irreducibility))
        return self

    def _require_time(self) -> np.ndarray:
        if self._time is None:
            raise RuntimeError("Expected a pseudotime, found none. Make the kernel with `time_key=...`.")
        return self._time

    @property
    def backward(self) -> bool:
        """Direction of the process."""
        return self._backward

    @property
    def features(self) -> dict[str, Any]:
        """The pseudotime, by name, in two parts: see :func:`jaxvelo.transitions.in_parts`."""
        return {self._time_name: in_parts(self._require_time())}

    @property
    def _time_name(self) -> str:
        return f"time {self._time_key}"

    def _put_in_order(self, params: dict[str, Any]) -> None:
        """Put the order of the neighbours on the graph, for the scheme that needs it."""
        if params.get("scheme") == "hard":
            self._graph_data = self._neighbors.with_derived(
                self._order_name, lambda: strength_order(self.connectivities)
            )

    @property
    def _order_name(self) -> str:
        return f"order of {self.conn_key}"

    @property
    def transition_function(self) -> Pseudotime:
        """The pure transition function with the parameters in use."""
        return self._transition_function(self.params, self._function)

    def _transition_function(self, params: dict[str, Any], function: Callable[..., jax.Array] | None) -> Pseudotime:
        named = params.get("scheme", "hard")
        return Pseudotime(
            require_built_in(named, SCHEMES, "scheme") if function is None else function,
            params.get("frac_to_keep", 0.3),
            params.get("b", 10.0),
            params.get("nu", 0.5),
            backward=self._backward,
            time=self._time_name,
            edges=self.conn_key,
            order=self._order_name if params.get("scheme") == "hard" else None,
        )

    def with_numbers(self, numbers: Mapping[str, float]) -> Self:
        """Return a copy with other values of ``b`` and ``nu``, computed."""
        return self.copy().compute_transition_matrix("soft", **{**_only(self.params, ("b", "nu")), **numbers})

    def restore(self, matrix: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Take a stored result, unchanged to the last bit."""
        known = _only(params, _PARAMETERS)
        self._put_in_order(known)
        super().restore(matrix, known)
        self._function = None

    def __invert__(self) -> Self:
        other = self.copy()
        other._backward = not self._backward
        other.init = {**self.init, "backward": other._backward}
        other._params, other._result, other._function = {}, None, None
        return other

    @classmethod
    def recognizes(cls, init: dict[str, Any]) -> bool:
        """Whether CellRank stores these arguments for a kernel of this class."""
        return {"time_key", "backward"} <= set(init) and init["time_key"] != CYTOTRACE_TIME


CYTOTRACE_TIME = "ct_pseudotime"
"""Column of the pseudotime of CytoTRACE, by which its kernel is told from others."""


def checked_time(time: np.ndarray, key: str) -> np.ndarray:
    """Return a time of each cell if all are known and finite, and not all the same."""
    bad = np.flatnonzero(~np.isfinite(time))
    if len(bad):
        raise ValueError(
            f"Expected a finite time of each cell in `adata.obs[{key!r}]`, found {len(bad)} cells without, the first "
            f"of them {bad[0]}. Remove these cells, or compute their times."
        )
    if len(time) and time.min() == time.max():
        raise ValueError(
            f"Expected times that differ in `adata.obs[{key!r}]`, found {time[0]:.6g} for all {len(time)} cells. Pass "
            "another `time_key`, or use a `ConnectivityKernel`, which needs no time."
        )
    return time


def warn_about_connections(matrix: sp.csr_matrix, check_irreducibility: bool) -> None:
    """Log what cells cannot be reached from others."""
    if connected_components(matrix, directed=False, return_labels=False) > 1:
        logger.warning(
            "Biased k-NN graph is disconnected: along the pseudotime, it falls into parts that no cell leaves"
        )
    if check_irreducibility and connected_components(matrix, connection="strong", return_labels=False) > 1:
        logger.warning(
            "Biased k-NN graph is not irreducible: along the pseudotime, not every cell can be reached from every other"
        )


def _only(params: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: params[name] for name in names if name in params}
