"""Kernels, and what is made of them: sums and products, by the rules of :mod:`jaxvelo.transitions`."""

from __future__ import annotations

import abc
import functools
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.kernels._exploration import Exploration
from jaxvelo.kernels._graph_data import GraphData, Transitions
from jaxvelo.kernels._named_data import joined_data
from jaxvelo.kernels._storage import Storage, kernel_of_file
from jaxvelo.kernels._weights import Constant, format_weight, read_weight
from jaxvelo.transitions import Product, TransitionFunction
from jaxvelo.transitions._algebra import PositiveSums, Role, factors_of_product, terms_of_sum, with_weight


class KernelExpression(PositiveSums, Exploration, Storage):
    """A kernel or a combination of kernels on the cells of an AnnData object.

    Kernels are combined as ``0.8 * a + 0.2 * b`` (weights are normalised to sum to one) and ``a * b`` (element by
    element, rows normalised). A weight may be an array with one value for each cell, of NumPy or JAX; or a pandas
    series, whose index must be the names of the cells (in any order) or none. ``a / 2`` is ``0.5 * a``, and ``sum``
    adds a list of kernels. There is no difference of kernels: weights are positive.

    Walks, pictures and scores come from :class:`~jaxvelo.kernels._exploration.Exploration`, files and AnnData entries
    from :class:`~jaxvelo.kernels._storage.Storage`; here is how kernels are combined.

    See :class:`jaxvelo.kernels.KernelAdd` and :class:`jaxvelo.kernels.KernelMul`.

    Examples
    --------
    >>> kernel = (0.8 * vk + 0.2 * ck).compute_transition_matrix()
    >>> bool(np.allclose(kernel.transition_matrix.sum(axis=1), 1))
    True
    """

    # Numbers and arrays of NumPy, and pandas' series, must leave `weight * kernel` to this class: they would take it
    # for a scalar and make an array of kernels.
    __array_ufunc__ = None
    __pandas_priority__ = 1_000_000

    _plural: ClassVar[str] = "kernels"

    @property
    @abc.abstractmethod
    def kernels(self) -> tuple[KernelExpression, ...]:
        """The basic kernels, each once, in order of appearance."""

    @property
    @abc.abstractmethod
    def occurrences(self) -> tuple[int, ...]:
        """Places in :attr:`kernels` of the terms of :attr:`transition_function`, in order, as often as they occur."""

    @property
    @abc.abstractmethod
    def weighted_sums(self) -> tuple[KernelAdd, ...]:
        """Sums of at least two weighted terms: an outer one before those in it, from left to right."""

    @abc.abstractmethod
    def with_kernels(
        self, kernels: Sequence[KernelExpression], weights: Sequence[Sequence[Any]] | None = None
    ) -> KernelExpression:
        """Return the same combination of other basic kernels, and with other weights.

        Parameters
        ----------
        kernels
            One for each of :attr:`kernels`.
        weights
            For each of :attr:`weighted_sums` the weights of its weighted terms, each a number or one for each cell; as
            they are if ``None``.

        Returns
        -------
        The combination, not computed; of a basic kernel, the only one of ``kernels``.

        Examples
        --------
        >>> print(kernel.with_kernels([ck, vk]))
        (0.8 * ConnectivityKernel[n=150] + 0.2 * VelocityKernel[n=150])
        """

    def with_numbers(self, numbers: Mapping[str, float]) -> KernelExpression:
        """Return a copy with other values of the numbers that a fit moves, computed.

        A basic kernel whose transition function has :attr:`~jaxvelo.transitions.TransitionFunction.free` leaves has
        this.

        Parameters
        ----------
        numbers
            The numbers by name, such as ``"b"`` of the leaf ``log_b``.

        Returns
        -------
        The copy.

        Raises
        ------
        TypeError
            If the kernel has no such numbers.

        Examples
        --------
        >>> pk = jv.kernels.PseudotimeKernel(adata, "true_time")
        >>> pk.compute_transition_matrix(threshold_scheme="soft").with_numbers({"b": 5.0}).params["b"]
        5.0
        """
        raise TypeError(
            f"A `{type(self).__name__}` has no numbers to fit, found {sorted(numbers)}. A kernel of your own whose "
            "transition function has `free` leaves needs a method `with_numbers`."
        )

    @property
    @abc.abstractmethod
    def role(self) -> Role:
        """What the kernel is to the rules of adding and multiplying."""

    @property
    @abc.abstractmethod
    def terms(self) -> tuple[KernelExpression, ...]:
        """Terms of a sum."""

    @property
    @abc.abstractmethod
    def unweighted(self) -> KernelExpression:
        """The kernel without a weight in front."""

    @abc.abstractmethod
    def combined(self, leaves: Sequence[TransitionFunction]) -> TransitionFunction:
        """Combine pure transition functions, one for each of :attr:`kernels`, as the kernels are combined.

        Parameters
        ----------
        leaves
            The transition functions, in the order of :attr:`kernels`.

        Returns
        -------
        The combined one, see :class:`jaxvelo.transitions.TransitionFunction`.

        Examples
        --------
        >>> function = kernel.combined([part.transition_function for part in kernel.kernels])
        >>> function(kernel.graph, kernel.features).shape
        (150, 150)
        """

    @property
    def transition_function(self) -> TransitionFunction:
        """The pure, differentiable function from graph and features to transitions.

        ``kernel.transition_function(kernel.graph, kernel.features)`` gives :attr:`transitions`.
        """
        return self.combined([kernel.transition_function for kernel in self.kernels])

    @property
    def expression(self) -> TransitionFunction:
        """Earlier name of :attr:`transition_function`."""
        return self.transition_function

    @property
    @abc.abstractmethod
    def graph_data(self) -> GraphData:
        """The sparse matrices that the transition function needs."""

    @property
    def graph(self) -> NeighborGraph:
        """The graph that the transition function needs."""
        return self.graph_data.graph

    @property
    @abc.abstractmethod
    def features(self) -> dict[str, Any]:
        """Data that the transition function needs, by name: gene expression and velocity, or what else it reads."""

    @property
    @abc.abstractmethod
    def result(self) -> Transitions | None:
        """The transition probabilities; ``None`` before they are computed."""

    @property
    def transitions(self) -> TransitionMatrix:
        """The transition matrix as a pytree on the device."""
        self.require_transitions()
        assert self.result is not None
        return self.result.on_graph

    @abc.abstractmethod
    def compute_transition_matrix(self) -> KernelExpression:
        """Compute the transition matrix and return the kernel.

        The class of a basic kernel says how; kernels are combined as :class:`jaxvelo.kernels.KernelAdd` and
        :class:`jaxvelo.kernels.KernelMul` say.

        Examples
        --------
        >>> (0.5 * vk + 0.5 * ck).compute_transition_matrix().transition_matrix.shape
        (150, 150)
        """

    @abc.abstractmethod
    def copy(self, *, deep: bool = False) -> KernelExpression:
        """Copy the kernel, with its AnnData object only if ``deep``.

        Parameters
        ----------
        deep
            Whether to copy the AnnData object too.

        Returns
        -------
        The copy, computed if the kernel is.

        Examples
        --------
        >>> other = kernel.copy()
        >>> other.adata is adata, kernel.copy(deep=True).adata is adata
        (True, False)
        """

    @abc.abstractmethod
    def __invert__(self) -> KernelExpression:
        """Return the kernel of the opposite direction, not computed yet; a copy if there is no direction."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> KernelExpression | Constant:
        pass

    @abc.abstractmethod
    def __len__(self) -> int:
        pass

    @abc.abstractmethod
    def format(self, full: bool, computed: bool = False) -> str:
        """Name the kernel, with its parameters if ``full``; its weights as parts of their sum if ``computed``.

        Parameters
        ----------
        full
            Whether to name the parameters.
        computed
            Whether weights are shown as parts of their sum.

        Returns
        -------
        The name, as it is printed.

        Examples
        --------
        >>> kernel.format(full=False)
        '(0.8 * VelocityKernel[n=150] + 0.2 * ConnectivityKernel[n=150])'
        """

    def __repr__(self) -> str:
        return self._with_direction(self.format(full=True))

    def __str__(self) -> str:
        return self._with_direction(self.format(full=False))

    def _with_direction(self, text: str) -> str:
        return f"~{text}" if self.backward else text

    @staticmethod
    def read(fname: str | os.PathLike, adata: AnnData | None = None, copy: bool = False) -> KernelExpression:
        """Read a kernel, of any class, from a file that :meth:`KernelExpression.write` wrote.

        Parameters
        ----------
        fname
            The file.
        adata
            AnnData object, for a file without one.
        copy
            Whether to copy ``adata``; a view always is.

        Returns
        -------
        The kernel, of the class that it was written with, and computed if it was.

        Raises
        ------
        TypeError
            If there is no AnnData object in the file nor given.
        ValueError
            If ``adata`` has other cells, or in another order, or the file is none of ours.

        Examples
        --------
        >>> kernel.write("kernel.npz", write_adata=False)
        >>> print(jv.kernels.read("kernel.npz", adata))
        (0.8 * VelocityKernel[n=150] + 0.2 * ConnectivityKernel[n=150])
        """
        kernel = kernel_of_file(fname, adata, copy)
        assert isinstance(kernel, KernelExpression)
        return kernel

    def __add__(self, other: Any) -> KernelAdd:
        if not isinstance(other, KernelExpression):
            return NotImplemented
        return KernelAdd(*terms_of_sum(self, other, lambda kernel: _scaled(kernel, 1.0)))

    def __mul__(self, other: Any) -> KernelMul:
        if isinstance(other, KernelExpression):
            return KernelMul(*factors_of_product(self, other))
        weight = read_weight(other, self.adata)
        return NotImplemented if weight is None else _scaled(self, weight)

    def __rmul__(self, other: Any) -> KernelMul:
        return self.__mul__(other)

    def __truediv__(self, other: Any) -> KernelMul:
        divisor = read_weight(other, self.adata)
        return NotImplemented if divisor is None else _scaled(self, 1 / Constant(self.adata, divisor).value)


class Combination(KernelExpression):
    """Kernels combined by one operation.

    A :class:`jaxvelo.kernels.KernelAdd` or a :class:`jaxvelo.kernels.KernelMul`.

    Parameters
    ----------
    parts
        The kernels; for a kernel with a weight in front, the weight and the kernel.

    Raises
    ------
    ValueError
        If the kernels are of different numbers of cells, or of opposite directions.

    Examples
    --------
    >>> len(0.8 * vk + 0.2 * ck), isinstance(vk * ck, jv.kernels.Combination)
    (2, True)
    """

    _operator: str

    def __init__(self, *parts: KernelExpression | Constant):
        self.parts = parts
        self.operands = tuple(part for part in parts if isinstance(part, KernelExpression))
        shapes = {operand.shape for operand in self.operands}
        if len(shapes) > 1:
            raise ValueError(f"Expected all kernels to have the same shape, found {sorted(shapes)}.")
        directions = {operand.backward for operand in self.operands} - {None}
        if len(directions) > 1:
            raise ValueError("Unable to combine both forward and backward kernels. Invert one of them as `~kernel`.")
        self._backward = directions.pop() if directions else None
        self._kernels, self._places = _numbered(self.operands)
        self._result: Transitions | None = None
        self._made_of: tuple[Transitions | None, ...] = ()
        self._joined: GraphData | None = None
        self._joined_of: tuple[GraphData | None, ...] = (None,) * len(self._kernels)

    @property
    def kernels(self) -> tuple[KernelExpression, ...]:
        """The basic kernels, each once, in order of appearance."""
        return self._kernels

    @property
    def occurrences(self) -> tuple[int, ...]:
        """Places in :attr:`kernels` of the terms of :attr:`transition_function`, in order, as often as they occur."""
        return tuple(places[i] for operand, places in self._numbered_operands() for i in operand.occurrences)

    @property
    def weighted_sums(self) -> tuple[KernelAdd, ...]:
        """Sums of at least two weighted terms: an outer one before those in it, from left to right."""
        return tuple(node for operand in self.operands for node in operand.weighted_sums)

    def with_kernels(
        self, kernels: Sequence[KernelExpression], weights: Sequence[Sequence[Any]] | None = None
    ) -> Combination:
        """Return the same combination of other basic kernels, and with other weights."""
        start = len(self.weighted_sums) - sum(len(operand.weighted_sums) for operand in self.operands)
        new: list[KernelExpression] = []
        for operand, places in self._numbered_operands():
            stop = start + len(operand.weighted_sums)
            inner = None if weights is None else weights[start:stop]
            new.append(operand.with_kernels([kernels[i] for i in places], inner))
            start = stop
        operands = iter(new)
        return type(self)(*(part if isinstance(part, Constant) else next(operands) for part in self.parts))

    def combined(self, leaves: Sequence[TransitionFunction]) -> TransitionFunction:
        """Combine pure transition functions, one for each of :attr:`kernels`, as the kernels are combined.

        Raises
        ------
        TypeError
            Always: a combination is a sum or a product, which have a method of their own.
        """
        raise TypeError(f"`{type(self).__name__}` is abstract.")

    def _combined_operands(self, leaves: Sequence[TransitionFunction]) -> tuple[TransitionFunction, ...]:
        return tuple(operand.combined([leaves[i] for i in places]) for operand, places in self._numbered_operands())

    def _numbered_operands(self) -> Iterator[tuple[KernelExpression, tuple[int, ...]]]:
        """Each operand with the places of its basic kernels among all."""
        return zip(self.operands, self._places, strict=True)

    @property
    def terms(self) -> tuple[KernelExpression, ...]:
        """The combination as the only term of a sum."""
        return (self,)

    @property
    def unweighted(self) -> KernelExpression:
        """The combination itself."""
        return self

    def compute_transition_matrix(self) -> KernelExpression:
        """Combine the transition matrices of the basic kernels, which must have been computed.

        Raises
        ------
        RuntimeError
            If they have not been.
        """
        results = []
        for kernel in self.kernels:
            if kernel.result is None:
                raise RuntimeError(
                    f"`{kernel}` is uninitialized. "
                    "Compute its transition matrix first as `.compute_transition_matrix()`."
                )
            results.append(kernel.result)
        self._take(self.graph_data.combined(self.combined, results))
        return self

    def restore(self, matrix: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Take over a stored result, unchanged to the last bit; the parameters are those of the basic kernels."""
        self._take(Transitions(self.graph_data, matrix))

    def _take(self, result: Transitions) -> None:
        self._result, self._made_of = result, tuple(kernel.result for kernel in self.kernels)

    @property
    def result(self) -> Transitions | None:
        """The transition probabilities, if none of the basic kernels has been computed anew since."""
        now = (kernel.result for kernel in self.kernels)
        is_current = self._result is not None and all(a is b for a, b in zip(self._made_of, now, strict=True))
        return self._result if is_current else None

    @property
    def transition_matrix(self) -> sp.csr_matrix:
        """Row-stochastic matrix of shape ``(cells, cells)``, float64; computed when first asked for, read-only."""
        if self.result is None:
            self.compute_transition_matrix()
        assert self._result is not None
        return self._result.matrix

    @property
    def graph_data(self) -> GraphData:
        """The sparse matrices of all basic kernels."""
        now = tuple(kernel.graph_data for kernel in self.kernels)
        if not all(a is b for a, b in zip(self._joined_of, now, strict=True)):
            first, *others = now
            self._joined = functools.reduce(lambda data, other: data.with_matrices(other.matrices), others, first)
            self._joined_of = now
        assert self._joined is not None
        return self._joined

    @property
    def conn_key(self) -> str | None:
        """Name of the neighbour graph of the first kernel that has one."""
        return next((kernel.conn_key for kernel in self.kernels if kernel.conn_key is not None), None)

    @property
    def connectivities(self) -> sp.csr_matrix | None:
        """Weights of this neighbour graph."""
        return next((kernel.connectivities for kernel in self.kernels if kernel.conn_key is not None), None)

    @property
    def features(self) -> dict[str, Any]:
        """Data of all basic kernels, by name."""
        return joined_data(kernel.features for kernel in self.kernels)

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
    def params(self) -> dict[str, Any]:
        """Parameters of each basic kernel."""
        return {f"{kernel!r}:{i}": kernel.params for i, kernel in enumerate(self.kernels)}

    def copy(self, *, deep: bool = False) -> Combination:
        """Copy the kernels, with their AnnData object only if ``deep``."""
        other = self.with_kernels([kernel.copy() for kernel in self.kernels])
        if self.result is not None:
            other._take(self.result)
        if deep:
            other.adata = self.adata.copy()
        return other

    def __invert__(self) -> Combination:
        return self.with_kernels([~kernel for kernel in self.kernels])

    def describe(self, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """Describe the combination by its parts."""
        numbers = range(len(self.kernels)) if numbers is None else numbers
        parts = []
        places = iter(self._places)
        for part in self.parts:
            if isinstance(part, Constant):
                parts.append({"type": "Constant", "value": part.value})
            else:
                parts.append(part.describe([numbers[i] for i in next(places)]))
        return {"type": type(self).__name__, "parts": {str(i): part for i, part in enumerate(parts)}}

    @classmethod
    def from_description(
        cls,
        description: dict[str, Any],
        adata: AnnData,
        part: Callable[[dict[str, Any]], Any],
        matrix_of: Callable[[int], sp.csr_matrix | None],
    ) -> Combination:
        """Make the combination that was described."""
        parts = [description["parts"][str(i)] for i in range(len(description["parts"]))]
        return cls(
            *(
                Constant(adata, np.asarray(of["value"], dtype=np.float64)) if of["type"] == "Constant" else part(of)
                for of in parts
            )
        )

    def arguments_to_store(self, key: str) -> dict[str, Any]:
        """Arguments of CellRank's ``PrecomputedKernel``, which without them takes the matrix behind a default key."""
        return {"obsp_key": key, "backward": self.backward}

    def __getitem__(self, index: int) -> KernelExpression | Constant:
        return self.parts[index]

    def __len__(self) -> int:
        return len(self.parts)

    def format(self, full: bool, computed: bool = False) -> str:
        """Name the combination, with the parameters of its kernels if ``full``.

        As in CellRank, weights are those that were given until the combination is computed, which makes them sum to
        one.
        """
        computed = computed or self._result is not None
        return "(" + f" {self._operator} ".join(part.format(full, computed) for part in self.parts) + ")"


class KernelMul(Combination):
    r"""Product of kernels, or one kernel with a weight in front.

    .. math:: T_{ij} \propto \prod_k (T_k)_{ij}, \qquad \sum_j T_{ij} = 1

    Parameters
    ----------
    parts
        The factors; or a :class:`Constant` and the kernel that it weighs.

    Raises
    ------
    ValueError
        If the kernels are of different numbers of cells, or of opposite directions.

    Examples
    --------
    >>> print(vk * ck)
    (VelocityKernel[n=150] * ConnectivityKernel[n=150])
    >>> (vk * ck).compute_transition_matrix().transition_matrix.shape
    (150, 150)
    """

    _operator = "*"

    @property
    def weight(self) -> float | np.ndarray | None:
        """The weight in front, if there is one."""
        first = self.parts[0]
        return first.value if isinstance(first, Constant) else None

    @property
    def role(self) -> Role:
        """A product, or a term with a weight."""
        return Role.PRODUCT if self.weight is None else Role.WEIGHTED

    @property
    def unweighted(self) -> KernelExpression:
        """The kernel without the weight in front."""
        return self if self.weight is None else self.operands[0]

    def combined(self, leaves: Sequence[TransitionFunction]) -> TransitionFunction:
        """Multiply pure transition functions, one for each of :attr:`kernels`."""
        factors = self._combined_operands(leaves)
        return Product(factors) if self.weight is None else factors[0] * self.weight

    def format(self, full: bool, computed: bool = False, total: Any = 1.0) -> str:
        """Name the product; the weight is shown as a part of ``total``."""
        computed = computed or self._result is not None
        if self.weight is None:
            return super().format(full, computed)
        return f"{format_weight(self.weight / total)} * {self.operands[0].format(full, computed)}"

    def _with_direction(self, text: str) -> str:
        return super()._with_direction(text if self.weight is None or not self.backward else f"({text})")


class KernelAdd(Combination):
    r"""Weighted mean of kernels.

    .. math:: T = \frac{\sum_k w_k T_k}{\sum_k w_k}

    Parameters
    ----------
    parts
        The terms.

    Raises
    ------
    ValueError
        If the kernels are of different numbers of cells, or of opposite directions.

    Examples
    --------
    >>> kernel = (3 * vk + 1 * ck).compute_transition_matrix()
    >>> print(kernel)
    (0.75 * VelocityKernel[n=150] + 0.25 * ConnectivityKernel[n=150])
    >>> kernel.weights
    (0.75, 0.25)
    """

    _operator = "+"

    @property
    def role(self) -> Role:
        """A sum; one of weighted terms, if all have a weight."""
        return Role.SUM if any(_weight_of(term) is None for term in self.operands) else Role.SUM_OF_WEIGHTED

    @property
    def terms(self) -> tuple[KernelExpression, ...]:
        """The terms."""
        return self.operands

    def combined(self, leaves: Sequence[TransitionFunction]) -> TransitionFunction:
        """Add pure transition functions, one for each of :attr:`kernels`."""
        return functools.reduce(operator.add, self._combined_operands(leaves))

    @property
    def weights(self) -> tuple[float | np.ndarray | None, ...]:
        """Weights of the terms, as parts of their sum; ``None`` for a product that has none."""
        total = self._total_weight()
        return tuple(None if weight is None else weight / total for weight in map(_weight_of, self.operands))

    @property
    def weighted_sums(self) -> tuple[KernelAdd, ...]:
        """The sum, if at least two of its terms have a weight, and those in it."""
        n_weighted = sum(weight is not None for weight in map(_weight_of, self.operands))
        return (self, *super().weighted_sums) if n_weighted > 1 else super().weighted_sums

    def with_kernels(
        self, kernels: Sequence[KernelExpression], weights: Sequence[Sequence[Any]] | None = None
    ) -> KernelAdd:
        """Return the same sum of other basic kernels, and with other weights."""
        new = super().with_kernels(kernels, weights)
        assert isinstance(new, KernelAdd)
        own = self.weighted_sums[:1]
        return new.with_weights(weights[0]) if weights is not None and own and own[0] is self else new

    def with_weights(self, weights: Sequence[Any]) -> KernelAdd:
        """Return the same sum with other weights of its weighted terms.

        Parameters
        ----------
        weights
            The weight of each term that has one, in their order: a positive number, or one for each cell.

        Returns
        -------
        The sum, not computed.

        Raises
        ------
        TypeError, ValueError
            If a weight is not positive and finite, or of other cells.

        Examples
        --------
        >>> print((0.8 * vk + 0.2 * ck).with_weights([0.5, 0.5]))
        (0.5 * VelocityKernel[n=150] + 0.5 * ConnectivityKernel[n=150])
        """
        new = iter(weights)
        return KernelAdd(
            *(
                term if _weight_of(term) is None else KernelMul(Constant(self.adata, next(new)), term.unweighted)
                for term in self.operands
            )
        )

    def format(self, full: bool, computed: bool = False) -> str:
        """Name the sum, with the parameters of its kernels if ``full``; weights as :meth:`Combination.format` says."""
        computed = computed or self._result is not None
        total = self._total_weight() if computed else 1.0
        terms = (
            term.format(full, computed, total) if isinstance(term, KernelMul) else term.format(full, computed)
            for term in self.operands
        )
        return "(" + " + ".join(terms) + ")"

    def _total_weight(self) -> Any:
        given = [weight for weight in map(_weight_of, self.operands) if weight is not None]
        return sum(given[1:], given[0]) if given else 1.0


def _weight_of(term: KernelExpression) -> float | np.ndarray | None:
    """Weight in front of a term, if there is one."""
    return term.weight if isinstance(term, KernelMul) else None


def _scaled(kernel: KernelExpression, weight: float | np.ndarray) -> KernelMul:
    """Put a weight in front."""
    value, unweighted = with_weight(kernel, weight)
    return KernelMul(Constant(kernel.adata, value), unweighted)


def _numbered(
    operands: Sequence[KernelExpression],
) -> tuple[tuple[KernelExpression, ...], tuple[tuple[int, ...], ...]]:
    """Basic kernels of all operands, each once, and the places of those of each operand among them."""
    kernels: list[KernelExpression] = []
    places = []
    for operand in operands:
        for kernel in operand.kernels:
            if not any(kernel is known for known in kernels):
                kernels.append(kernel)
        places.append(
            tuple(next(i for i, known in enumerate(kernels) if known is kernel) for kernel in operand.kernels)
        )
    return tuple(kernels), tuple(places)
