"""Basic kernels: what they have in common, and how they are read from AnnData."""

from __future__ import annotations

import abc
import copy as copying
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.plain_values import plain, without_none
from jaxvelo.graph import TransitionMatrix
from jaxvelo.kernels._combination import KernelAdd, KernelExpression
from jaxvelo.kernels._graph_data import GraphData, Transitions
from jaxvelo.kernels._storage import kernel_of_class, kernel_of_entry
from jaxvelo.transitions import TransitionFunction
from jaxvelo.transitions._algebra import Role


class Kernel(KernelExpression):
    """A basic kernel: it reads from AnnData what it needs, and computes a transition matrix of its own.

    A kernel of one's own is a subclass with :attr:`transition_function`, :attr:`backward` and a
    :meth:`compute_transition_matrix` that ends in :meth:`set_transitions`. If ``init`` are its arguments after
    ``adata``, and they and its parameters are plain values, it can be combined, written and read like all others.

    Parameters
    ----------
    adata
        Annotated data.
    graph_data
        The sparse matrices of the kernel.
    init
        Arguments that the kernel was made with, to store.

    Examples
    --------
    >>> [isinstance(part, jv.kernels.Kernel) for part in (vk, ck, kernel)]
    [True, True, False]
    """

    def __init__(self, adata: AnnData, graph_data: GraphData, init: dict[str, Any]):
        self._adata = adata
        self._graph_data = graph_data
        self.init = init
        self._params: dict[str, Any] = {}
        self._result: Transitions | None = None

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
    def occurrences(self) -> tuple[int, ...]:
        """The kernel occurs once."""
        return (0,)

    @property
    def weighted_sums(self) -> tuple[KernelAdd, ...]:
        """No sums."""
        return ()

    def with_kernels(
        self, kernels: Sequence[KernelExpression], weights: Sequence[Sequence[Any]] | None = None
    ) -> KernelExpression:
        """Return the only one of the kernels."""
        (kernel,) = kernels
        return kernel

    @property
    def role(self) -> Role:
        """A basic kernel."""
        return Role.BASIC

    @property
    def terms(self) -> tuple[KernelExpression, ...]:
        """The kernel as the only term of a sum."""
        return (self,)

    @property
    def unweighted(self) -> Kernel:
        """The kernel itself."""
        return self

    def combined(self, leaves: Sequence[TransitionFunction]) -> TransitionFunction:
        """Return the only one of the transition functions."""
        (leaf,) = leaves
        return leaf

    @property
    def params(self) -> dict[str, Any]:
        """Parameters that the transition matrix was computed with, as a copy: a change of it changes no kernel."""
        return copying.deepcopy(self._params)

    @property
    def graph_data(self) -> GraphData:
        """The sparse matrices that the transition function needs."""
        return self._graph_data

    @property
    def conn_key(self) -> str | None:
        """No neighbour graph that steps follow; see :class:`~jaxvelo.kernels.NeighborKernel`."""
        return None

    @property
    def connectivities(self) -> sp.csr_matrix | None:
        """No neighbour graph."""
        return None

    @property
    @abc.abstractmethod
    def transition_function(self) -> TransitionFunction:
        """The pure, differentiable function from graph and features to transitions.

        ``kernel.transition_function(kernel.graph, kernel.features)`` gives :attr:`transitions`.
        """

    @property
    def features(self) -> dict[str, Any]:
        """No data: the kernel uses the graph alone."""
        return {}

    @property
    def result(self) -> Transitions | None:
        """The transition probabilities; ``None`` before they are computed."""
        return self._result

    @property
    def transition_matrix(self) -> sp.csr_matrix | None:
        """Row-stochastic matrix of shape ``(cells, cells)``, float64; ``None`` before it is computed.

        It is read-only, as a change of it would not reach :attr:`transitions`. Use ``.copy()`` to change it, and
        :class:`PrecomputedKernel` to make a kernel of the result.
        """
        return None if self._result is None else self._result.matrix

    def set_transitions(self, transitions: TransitionMatrix, params: dict[str, Any]) -> None:
        """Take a result on the kernel's own graph: how a kernel of one's own ends its computation.

        Parameters
        ----------
        transitions
            The result, on :attr:`graph`.
        params
            Parameters that it was computed with, to show and to store.

        Raises
        ------
        ValueError
            If a probability is not finite.

        Examples
        --------
        >>> other = jv.kernels.ConnectivityKernel(adata)
        >>> other.set_transitions(ck.transitions, {"from": "elsewhere"})
        >>> other.params
        {'from': 'elsewhere'}
        """
        result = Transitions.of_values(self.graph_data, transitions.values)
        n_invalid = int(np.count_nonzero(~np.isfinite(result.matrix.data)))
        if n_invalid:
            raise ValueError(
                f"Expected finite transition probabilities, found {n_invalid} that are not, with {params}. "
                "A similarity of your own must be finite for cells in the same place and for zero velocities too; for "
                "the built-in ones, expression, velocity, weights or `softmax_scale` are too large."
            )
        self._result, self._params = result, copying.deepcopy(params)

    def restore(self, matrix: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Take over a stored result, unchanged to the last bit; the matrix becomes read-only."""
        self._result, self._params = Transitions(self.graph_data, matrix), copying.deepcopy(params)

    def copy(self, *, deep: bool = False) -> Self:
        """Copy the kernel, with its AnnData object only if ``deep``."""
        other = copying.copy(self)
        other.init = dict(self.init)
        if deep:
            other._adata = self._adata.copy()
        return other

    def __invert__(self) -> Self:
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

    def describe(self, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """Describe the kernel by its arguments and parameters."""
        return {
            "type": type(self).__name__,
            "number": 0 if numbers is None else numbers[0],
            "init": without_none(self.init),
            "params": without_none(self.params),
        }

    @classmethod
    def from_description(
        cls,
        description: dict[str, Any],
        adata: AnnData,
        part: Callable[[dict[str, Any]], Any],
        matrix_of: Callable[[int], sp.csr_matrix | None],
    ) -> Self:
        """Make the kernel of its stored arguments, with its transition matrix."""
        init = plain(description["init"])
        init.pop("check_symmetric", None)  # an argument of CellRank; here the check is always made
        matrix = matrix_of(int(description["number"]))
        kernel = cls.from_arguments(adata, init, matrix)
        if matrix is not None:
            kernel.restore(matrix, plain(description["params"]))
        return kernel

    @classmethod
    def from_arguments(cls, adata: AnnData, init: dict[str, Any], matrix: sp.csr_matrix | None) -> Self:
        """Make a kernel of stored arguments, and of its transition matrix if that is one of them.

        Parameters
        ----------
        adata
            Annotated data.
        init
            The arguments after ``adata``.
        matrix
            The transition matrix, for kernels that are made of one; :obj:`None` if it was not computed.

        Returns
        -------
        The kernel, not computed.

        Examples
        --------
        >>> print(jv.kernels.VelocityKernel.from_arguments(adata, vk.init, None))
        VelocityKernel[n=150]
        """
        return cls(adata, **init)

    def arguments_to_store(self, key: str) -> dict[str, Any]:
        """Arguments that the kernel was made with."""
        return self.init

    @classmethod
    def from_adata(cls, adata: AnnData, key: str, copy: bool = False) -> Self:
        """Read a kernel of this class that was written by :meth:`write_to_adata`, here or in CellRank.

        Parameters
        ----------
        adata
            Annotated data.
        key
            Key in ``adata.obsp``, and with ``"_params"`` in ``adata.uns``.
        copy
            Without effect: the kernel always has a copy of the matrix.

        Returns
        -------
        The kernel, computed.

        Raises
        ------
        KeyError
            If there is no such entry.
        TypeError, ValueError
            If what stands there is no kernel of this class, or not of these cells.

        Examples
        --------
        >>> vk.write_to_adata(key="velocities")
        >>> print(jv.kernels.VelocityKernel.from_adata(adata, "velocities"))
        VelocityKernel[n=150]
        """
        return kernel_of_class(cls, adata, key)


read = KernelExpression.read


def from_adata(adata: AnnData, key: str, copy: bool = False) -> KernelExpression:
    """Read whatever kernel was written to an AnnData object, here or in CellRank.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Key that it was written with, such as ``"T_fwd"``.
    copy
        Without effect: the kernel always has copies of the matrices.

    Returns
    -------
    The kernel, a combination included: with its transition matrix to the last bit, its parameters and its weights. What
    CellRank wrote without saying how it was made is a :class:`PrecomputedKernel`; so is, with a warning, a matrix whose
    rows do not sum to one, as when cells were chosen since.

    Raises
    ------
    KeyError
        If there is no such kernel.

    Examples
    --------
    >>> kernel.write_to_adata(key="mine")
    >>> print(jv.kernels.from_adata(adata, "mine"))
    (0.8 * VelocityKernel[n=150] + 0.2 * ConnectivityKernel[n=150])
    """
    kernel = kernel_of_entry(adata, key)
    assert isinstance(kernel, KernelExpression)
    return kernel


def format_value(value: Any) -> str:
    """Write a parameter; of an array, its median and its range."""
    if isinstance(value, np.ndarray):
        return f"{np.median(value):.3g} ({value.min():.3g} to {value.max():.3g})"
    return repr(round(value, 3) if isinstance(value, float) else value)
