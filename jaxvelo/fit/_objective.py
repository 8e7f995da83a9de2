"""What a fit makes small: losses of transition matrices, item by item, on any set of cells."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._precision import full_precision
from jaxvelo.transitions import Features, TransitionFunction

Transitions = tuple[TransitionMatrix, ...]


class Loss(eqx.Module):
    """A loss of a transition function: an :class:`Objective`, or a :class:`LinearCombination` of some.

    Losses are added, subtracted, and multiplied and divided by numbers: ``fates + 0.1 * gain``, ``sum(losses) / 3``.
    A loss is a pytree, its data are leaves.

    Examples
    --------
    >>> gain = jv.fit.TimeGain(time, jnp.arange(150), jnp.ones(150))
    >>> half, everywhere = 0.5 * gain, jnp.ones(150)
    >>> loss = half(jv.transitions.Connectivity(), graph, {}, jax.random.key(0), everywhere)
    >>> loss.shape, bool(loss > 0)
    ((), True)
    """

    # Otherwise NumPy's arrays would be multiplied number by number, into arrays of losses.
    __array_ufunc__ = None

    @property
    @abc.abstractmethod
    def n_transition_functions(self) -> int:
        """Number of the :meth:`transition_functions`."""

    @abc.abstractmethod
    def transition_functions(
        self, transition_function: TransitionFunction, features: Mapping[str, Features], key: Array
    ) -> tuple[TransitionFunction, ...]:
        """The transition functions whose transition matrices the loss is a function of.

        Parameters
        ----------
        transition_function
            The transition function that the loss is of.
        features
            Gene expression and velocity by name.
        key
            Random key.

        Returns
        -------
        tuple of TransitionFunction
            That one, or others that are made of it, :attr:`n_transition_functions` in all.
        """

    @abc.abstractmethod
    def on_cells(
        self, transitions: Transitions, features: Mapping[str, Features], key: Array, cells: Float[Array, "sets cells"]
    ) -> Float[Array, " sets"]:
        """Loss on several sets of cells, each a mask (or a weight for each cell).

        Parameters
        ----------
        transitions
            Transition matrices of :meth:`transition_functions`.
        features, key
            As given to :meth:`transition_functions`.
        cells
            The sets.

        Returns
        -------
        jax.Array
            Shape ``(sets,)``.
        """

    def __call__(
        self,
        transition_function: TransitionFunction,
        graph: NeighborGraph,
        features: Mapping[str, Features],
        key: Array,
        cells: Float[Array, " cells"] | None = None,
    ) -> Float[Array, ""]:
        """Loss of a transition function on some cells.

        Parameters
        ----------
        transition_function
            The transition function.
        graph, features
            The data that it is evaluated on.
        key
            Random key, for what is drawn at random: splits of genes, samples of the Monte Carlo model.
        cells
            Weight of each cell, such as a mask; all cells if ``None``.

        Returns
        -------
        jax.Array
            A scalar.
        """
        everywhere = jnp.ones(graph.n_cells) if cells is None else jnp.asarray(cells, dtype=float)
        transitions = evaluate(self.transition_functions(transition_function, features, key), graph, features, key)
        return self.on_cells(transitions, features, key, everywhere[None])[0]

    def __add__(self, other: "Loss") -> "LinearCombination":
        if not isinstance(other, Loss):
            return NotImplemented
        return LinearCombination(
            (*terms_of(self), *terms_of(other)), jnp.concatenate([coefficients_of(self), coefficients_of(other)])
        )

    def __radd__(self, other: int) -> "Loss":
        # ``sum`` begins with zero.
        return self if is_scalar(other) and other == 0 else NotImplemented

    def __mul__(self, coefficient: float | Array) -> "LinearCombination":
        if not is_scalar(coefficient):
            return NotImplemented
        return LinearCombination(terms_of(self), jnp.asarray(coefficient, dtype=float) * coefficients_of(self))

    def __rmul__(self, coefficient: float | Array) -> "LinearCombination":
        return self * coefficient

    def __truediv__(self, divisor: float | Array) -> "LinearCombination":
        if not is_scalar(divisor):
            return NotImplemented
        # A traced divisor has no value yet.
        if not isinstance(divisor, jax.core.Tracer) and divisor == 0:
            raise ValueError(
                "Expected a loss to be divided by a number other than 0, found 0: its coefficient would be infinite. "
                "Divide by another number, or leave the loss out."
            )
        return LinearCombination(terms_of(self), coefficients_of(self) / jnp.asarray(divisor, dtype=float))

    def __neg__(self) -> "LinearCombination":
        return self * -1

    def __sub__(self, other: "Loss") -> "LinearCombination":
        if not isinstance(other, Loss):
            return NotImplemented
        return self + -other


class Objective(Loss):
    r"""A loss that is a weighted mean over items, each of which belongs to one cell.

    .. math:: L = \sum_i w_i L_i \, \big/ \sum_i w_i

    over the items :math:`i` of the cells that are asked for. A new objective is a subclass with its item losses. It
    also says what it can be computed of, where the answers here do not hold for it: :attr:`n_cells`,
    :attr:`feature_names`, :meth:`check`.

    Attributes
    ----------
    cell
        Cell that each item belongs to: the item counts in the sets that hold this cell.
    weight
        Non-negative weight of each item.
    is_likelihood
        Whether item losses are negative log-likelihoods of independent observations.

    Examples
    --------
    >>> class Uncertainty(jv.fit.Objective):
    ...     cell: jax.Array
    ...     weight: jax.Array
    ...     is_likelihood = False
    ...     def item_losses(self, transitions, features, key):
    ...         return 1 - transitions[0].row_dot(transitions[0].values)[self.cell]
    >>> loss = Uncertainty(jnp.arange(150), jnp.ones(150))
    >>> bool(0 < loss(jv.transitions.Connectivity(), graph, {}, jax.random.key(0)) < 1)
    True
    """

    cell: eqx.AbstractVar[Int[Array, " items"]]
    weight: eqx.AbstractVar[Float[Array, " items"]]
    is_likelihood: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def item_losses(
        self, transitions: Transitions, features: Mapping[str, Features], key: Array
    ) -> Float[Array, " items"]:
        """Loss of each item.

        Parameters
        ----------
        transitions
            Transition matrices of :meth:`transition_functions`.
        features
            Gene expression and velocity by name.
        key
            Random key, as given to :meth:`transition_functions`.

        Returns
        -------
        jax.Array
            Shape ``(items,)``; NaN if it cannot be computed, which ends a fit.
        """

    def outlook(self, transitions: Transitions) -> Float[Array, "cells columns"] | None:
        """What is predicted of every cell, with items or without, such as its fates.

        A fit keeps that of the cells of which the items tell nothing, see :attr:`Problem.outside`.

        Parameters
        ----------
        transitions
            Transition matrices of :meth:`transition_functions`.

        Returns
        -------
        jax.Array or None
            Shape ``(cells, columns)``; ``None`` if nothing is predicted.
        """
        return None

    @property
    def outlook_names(self) -> tuple[str, ...]:
        """Names of the columns of :meth:`outlook` where these are fates; none otherwise."""
        return ()

    def unnamed(self) -> "Objective":
        """The same without names, for programs: these would be compiled anew for each set of names."""
        return self

    def given_cells(self) -> Bool[np.ndarray, " cells"] | bool:
        """Mask of the cells whose outlook is the same for all transitions, such as terminal ones."""
        return False

    def losses_and_outlook(
        self, transitions: Transitions, features: Mapping[str, Features], key: Array
    ) -> tuple[Float[Array, " items"], Float[Array, "cells columns"] | None]:
        """Loss of each item and :meth:`outlook`: together, where one follows from the other.

        Parameters
        ----------
        transitions, features, key
            As of :meth:`item_losses`.

        Returns
        -------
        tuple
            Results of :meth:`item_losses` and of :meth:`outlook`.
        """
        return self.item_losses(transitions, features, key), self.outlook(transitions)

    def evidence(self, transitions: TransitionMatrix) -> Float[np.ndarray, " cells"] | None:
        """How often a cell's own steps are expected to matter to the items.

        On the host, outside of compiled programs.

        Parameters
        ----------
        transitions
            The transition matrix.

        Returns
        -------
        numpy.ndarray or None
            Number of visits of chains from all items' cells, shape ``(cells,)``; ``None`` if the parameters of every
            cell follow from the items, as where these are of single steps.
        """
        return None

    def why_not_finite(self, transitions: Transitions) -> str:
        """Cause and remedy of losses that are not finite, for these transitions.

        To be called outside of compiled programs.

        Parameters
        ----------
        transitions
            Transition matrices of :meth:`transition_functions`.

        Returns
        -------
        str
            Empty if there is no more to say.
        """
        return ""

    @property
    def joint_cells(self) -> tuple[Int[np.ndarray, " members"], ...]:
        """Sets of cells of which an item is of all together; a split into cells for this and that keeps them whole."""
        return ()

    @property
    def classes(self) -> Int[Array, " items"] | None:
        """Class of each item, from 0, all of which a fit should see some items of; None if there are no classes."""
        return None

    @property
    def n_cells(self) -> int | None:
        """Number of cells that it was built on; None if it fits any that are not fewer than those of its items."""
        return None

    @property
    def cells_with_items(self) -> Int[np.ndarray, " cells"]:
        """Cells that decide by :meth:`weights_in` in which sets of cells the items count, each once, in order."""
        return np.unique(np.asarray(self.cell)[np.asarray(self.weight) > 0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features that it reads, which the kernel must have."""
        return ()

    def check(self, transitions: TransitionMatrix, cells: Sequence[str]) -> None:
        """Raise a ValueError, with cause and remedy, unless it can be computed of this transition matrix.

        A fit calls this once, with the matrix that it starts from.

        Parameters
        ----------
        transitions
            The transition matrix, on as many cells as :attr:`n_cells` says.
        cells
            Names of the cells, for the message.
        """

    @property
    def n_transition_functions(self):
        """One."""
        return 1

    def transition_functions(self, transition_function, features, key):
        """The transition function itself."""
        return (transition_function,)

    @full_precision
    def on_cells(self, transitions, features, key, cells):
        """Weighted mean of the items of each set of cells; zero for a set without items."""
        return self.mean_losses(self.item_losses(transitions, features, key), cells)

    def mean_losses(self, losses: Float[Array, " items"], cells: Float[Array, "sets cells"]) -> Float[Array, " sets"]:
        r"""Weighted mean of the items of each set of cells, :math:`\sum_i w_i L_i / \sum_i w_i`.

        Parameters
        ----------
        losses
            Loss of each item.
        cells
            The sets of cells, each a mask (or a weight for each cell).

        Returns
        -------
        jax.Array
            Shape ``(sets,)``; zero for a set without items.
        """
        weights = self.weights_in(cells).astype(losses.dtype)
        total = jnp.sum(weights, axis=1)
        return weights @ losses / jnp.where(total > 0, total, 1)

    def weights_in(self, cells: Float[Array, "sets cells"]) -> Float[Array, "sets items"]:
        """Weight of each item in each set of cells.

        Parameters
        ----------
        cells
            The sets of cells, each a mask (or a weight for each cell).

        Returns
        -------
        jax.Array
            Shape ``(sets, items)``.
        """
        return self.weight[None] * cells[:, self.cell]


class LinearCombination(Loss):
    r"""Weighted sum of objectives, :math:`\sum_m a_m L_m`.

    Attributes
    ----------
    terms
        The objectives.
    coefficients
        Their coefficients :math:`a_m`, shape ``(terms,)``.

    Examples
    --------
    >>> gain = jv.fit.TimeGain(time, jnp.arange(150), jnp.ones(150))
    >>> held_out = jv.fit.HeldOutVelocity("velocity", 2, jnp.arange(150), jnp.ones(150))
    >>> total = 2 * held_out + gain / 4
    >>> len(total.terms), total.coefficients.tolist()
    (2, [2.0, 0.25])
    """

    terms: tuple[Objective, ...]
    coefficients: Float[Array, " terms"]

    @property
    def n_transition_functions(self):
        """Those of all terms together."""
        return sum(term.n_transition_functions for term in self.terms)

    def transition_functions(self, transition_function, features, key):
        """The transition functions of all terms, one after the other."""
        return tuple(f for term in self.terms for f in term.transition_functions(transition_function, features, key))

    def on_cells(self, transitions, features, key, cells):
        """Weighted sum of the terms' losses on each set of cells."""
        total, start = jnp.zeros(cells.shape[0], transitions[0].values[0].dtype), 0
        for coefficient, term in zip(self.coefficients, self.terms, strict=True):
            end = start + term.n_transition_functions
            losses = term.on_cells(transitions[start:end], features, key, cells)
            total = total + coefficient.astype(total.dtype) * losses
            start = end
        return total


class FunctionOf(Objective):
    """Any function of the transition matrix.

    Parameters
    ----------
    function
        Takes the :class:`~jaxvelo.graph.TransitionMatrix`; returns one loss for each cell, shape ``(cells,)``. (A
        callable :class:`equinox.Module` brings its arrays along as leaves; those that a plain function closes over
        become constants of the compiled program.)
    n_cells
        Number of cells.

    Attributes
    ----------
    cell, weight
        As of :class:`Objective`; here the items are the cells.

    Examples
    --------
    >>> matrix = sp.csr_matrix([[1.0, 0.0, 0.0], [0.25, 0.0, 0.75], [0.0, 0.0, 1.0]])
    >>> chain = jv.graph.NeighborGraph.from_csr(matrix)
    >>> transitions = jv.graph.TransitionMatrix(chain, chain.edges["connectivities"].values)
    >>> loss = jv.fit.FunctionOf(lambda T: 1 - T.row_dot(T.values), n_cells=3)  # the more certain, the better
    >>> loss.item_losses((transitions,), {}, None).tolist()
    [0.0, 0.375, 0.0]
    """

    function: Callable[[TransitionMatrix], Float[Array, " cells"]]
    cell: Int[Array, " items"]
    weight: Float[Array, " items"]
    is_likelihood = False

    def __init__(self, function, n_cells: int):
        self.function = function
        self.cell = jnp.arange(n_cells)
        self.weight = jnp.ones(n_cells)

    @property
    def n_cells(self):
        """As many as items."""
        return len(self.cell)

    def check(self, transitions, cells):
        """The function must return one loss for each cell.

        Raises
        ------
        ValueError
            If it returns anything else.
        """
        returned = eqx.filter_eval_shape(self.function, transitions)
        shape = getattr(returned, "shape", None)
        if shape != (len(self.cell),):
            found = f"`{type(returned).__name__}`" if shape is None else f"shape {shape}"
            raise ValueError(
                f"Expected the function of the transition matrix to return one loss for each cell, shape "
                f"{(len(self.cell),)}, found {found}. The mean over cells is taken for you."
            )

    def item_losses(self, transitions, features, key):
        """The function's values."""
        return self.function(transitions[0])


def evaluate(
    transition_functions: tuple[TransitionFunction, ...],
    graph: NeighborGraph,
    features: Mapping[str, Features],
    key: Array,
) -> Transitions:
    """Transition matrices of several transition functions; one that occurs twice is evaluated once."""
    known: dict[int, TransitionMatrix] = {}
    for function in transition_functions:
        if id(function) not in known:
            known[id(function)] = function(graph, features, key=key)
    return tuple(known[id(function)] for function in transition_functions)


def size_of(loss: Loss) -> Array:
    """Sum of the sizes of the coefficients: what penalties are in units of, so that they grow with the loss."""
    return jnp.sum(jnp.abs(coefficients_of(loss)))


def unnamed(loss: Loss) -> Loss:
    """The same without names, see :meth:`Objective.unnamed`."""
    if isinstance(loss, LinearCombination):
        return LinearCombination(tuple(term.unnamed() for term in loss.terms), loss.coefficients)
    return terms_of(loss)[0].unnamed()


def is_scalar(value: Any) -> bool:
    """Whether ``value`` is a number, or an array of one."""
    return isinstance(value, int | float | np.generic | np.ndarray | Array) and np.ndim(value) == 0


def terms_of(loss: Loss) -> tuple[Objective, ...]:
    r"""The objectives that a loss is a sum of, :math:`L_m` in :math:`\sum_m a_m L_m`.

    Parameters
    ----------
    loss
        The loss.

    Returns
    -------
    tuple of Objective
        The terms of a :class:`LinearCombination`; an :class:`Objective` is its only one.

    Examples
    --------
    >>> gain = jv.fit.TimeGain(time, jnp.arange(150), jnp.ones(150))
    >>> [type(term).__name__ for term in jv.fit.terms_of(0.5 * gain + gain)]
    ['TimeGain', 'TimeGain']
    """
    if isinstance(loss, LinearCombination):
        return loss.terms
    assert isinstance(loss, Objective)
    return (loss,)


def coefficients_of(loss: Loss) -> Float[Array, " terms"]:
    r"""Coefficients of the objectives that a loss is a sum of, :math:`a_m` in :math:`\sum_m a_m L_m`.

    Parameters
    ----------
    loss
        The loss.

    Returns
    -------
    jax.Array
        Shape ``(terms,)``, in the order of :func:`terms_of`; one for an :class:`Objective`.

    Examples
    --------
    >>> gain = jv.fit.TimeGain(time, jnp.arange(150), jnp.ones(150))
    >>> jv.fit.coefficients_of(gain).tolist(), jv.fit.coefficients_of(gain / 4).tolist()
    ([1.0], [0.25])
    """
    return loss.coefficients if isinstance(loss, LinearCombination) else jnp.ones(1)
