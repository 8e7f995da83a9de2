"""A fit as one function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.fit._objective import Loss, coefficients_of, evaluate, terms_of, unnamed
from jaxvelo.fit._parameters import Parameters, Parametrization
from jaxvelo.graph import NeighborGraph
from jaxvelo.graph._precision import full_precision
from jaxvelo.transitions import Features, TransitionFunction, Velocity, evaluate_logits, fix_logits

Outlooks = tuple[Float[Array, "cells columns"] | None, ...]


class Problem(eqx.Module):
    """What is fitted to what: all that the loss depends on besides the parameters.

    Attributes
    ----------
    parametrization
        What is fitted.
    objective
        The loss.
    graph, features
        The data.
    key
        Random key, the same in every step: the loss is one function, and its minimum is well defined.
    outside
        Cells of which the items tell nothing, shape ``(cells,)``, one for each of them and zero for all others; their
        :meth:`Objective.outlook` is to stay. ``None`` if there are none.
    before
        The outlook of each term of the objective that is to stay.
    fixed, order
        If gene weights are not fitted: the objective's distinct transition functions with logits computed once, and
        which of these each one is.

    Examples
    --------
    >>> kernel, data = jv.transitions.Velocity(1.0), {"velocity": jv.transitions.Features(x, v)}
    >>> scale = jv.fit.Parametrization(kernel, None, None, (40,), ("scale",), 1, 1, (0,), "near_one")
    >>> loss = jv.fit.FutureLikelihood(fates.round(), 3, fates.argmax(axis=1), jnp.arange(150), jnp.ones(150))
    >>> problem = jv.fit.Problem.prepare(scale, loss, graph, data, jax.random.key(0))
    >>> problem.on_cells(scale.start(), jnp.ones((1, 150))).shape
    (1,)
    """

    parametrization: Parametrization
    objective: Loss
    graph: NeighborGraph
    features: Mapping[str, Features]
    key: Array
    outside: Float[Array, " cells"] | None = None
    before: Outlooks = ()
    fixed: tuple[TransitionFunction, ...] | None = None
    order: tuple[int, ...] = eqx.field(static=True, default=())

    @classmethod
    def prepare(
        cls,
        parametrization: Parametrization,
        objective: Loss,
        graph: NeighborGraph,
        features: Mapping[str, Features],
        key: Array,
        outside: Float[Array, " cells"] | None = None,
    ) -> Problem:
        """Compute once what stays the same in every step.

        Parameters
        ----------
        parametrization, objective, graph, features, key, outside
            As the attributes.

        Returns
        -------
        Problem
            With the logits of the template, unless gene weights are fitted, see
            :func:`~jaxvelo.transitions.fix_logits`.
        """
        objective = unnamed(objective)
        if "gene_weights" in parametrization.train:
            return cls(parametrization, objective, graph, features, key, outside)
        fixed, order, extended = _fix(parametrization.template, objective, graph, features, key)
        return cls(parametrization, objective, extended, features, key, outside, (), fixed, order)

    def on_cells(self, parameters: Parameters, cells: Float[Array, "sets cells"]) -> Float[Array, " sets"]:
        """Loss on several sets of cells.

        Parameters
        ----------
        parameters
            The parameters.
        cells
            The sets of cells, each a mask (or a weight for each cell), shape ``(sets, cells)``.

        Returns
        -------
        jax.Array
            Shape ``(sets,)``.
        """
        transitions = evaluate(self.transition_functions(parameters), self.graph, self.features, self.key)
        return self.objective.on_cells(transitions, self.features, self.key, cells)

    @full_precision
    def losses_and_outlooks(
        self, parameters: Parameters, cells: Float[Array, "sets cells"]
    ) -> tuple[Float[Array, " sets"], Outlooks]:
        """Loss on several sets of cells, and the outlook of each term of the objective.

        Parameters
        ----------
        parameters, cells
            As of :meth:`on_cells`.

        Returns
        -------
        losses : jax.Array
            Shape ``(sets,)``.
        outlooks : tuple
            One :meth:`Objective.outlook` for each term.
        """
        losses, outlooks = self.item_losses(parameters)
        total = jnp.zeros(len(cells), losses[0].dtype)
        terms = zip(coefficients_of(self.objective), terms_of(self.objective), losses, strict=True)
        for coefficient, term, of_items in terms:
            total = total + coefficient.astype(total.dtype) * term.mean_losses(of_items, cells)
        return total, outlooks

    def change_outside(self, outlooks: Outlooks) -> Float[Array, ""]:
        r"""Mean square change of outlooks over the cells outside, summed over their columns and the terms.

        .. math:: \sum_\text{terms} \frac{1}{|O|} \sum_{i \in O} \sum_k (B_{ik} - B^0_{ik})^2

        Parameters
        ----------
        outlooks
            :math:`B`, as of :meth:`losses_and_outlooks`; :math:`B^0` are those of :attr:`before`.

        Returns
        -------
        jax.Array
            A scalar; zero if there are no cells outside.
        """
        total = jnp.zeros(())
        if self.outside is None or not self.before:
            return total
        share = self.outside / jnp.sum(self.outside)
        for after, first in zip(outlooks, self.before, strict=True):
            if after is not None and first is not None:
                square = jnp.sum((after - first.astype(after.dtype)) ** 2, axis=1)
                total = total + share.astype(after.dtype) @ square
        return total

    @full_precision
    def item_losses(self, parameters: Parameters) -> tuple[tuple[Float[Array, " items"], ...], Outlooks]:
        """Loss of each item of each term of the objective, and the outlook of each term.

        Parameters
        ----------
        parameters
            The parameters.

        Returns
        -------
        losses : tuple of jax.Array
            Of each term, shape ``(items,)``.
        outlooks : tuple
            One :meth:`Objective.outlook` for each term.
        """
        transitions = evaluate(self.transition_functions(parameters), self.graph, self.features, self.key)
        losses, outlooks, start = [], [], 0
        for term in terms_of(self.objective):
            end = start + term.n_transition_functions
            of_items, outlook = term.losses_and_outlook(transitions[start:end], self.features, self.key)
            losses.append(of_items)
            outlooks.append(outlook)
            start = end
        return tuple(losses), tuple(outlooks)

    @full_precision
    def why_not_finite(self, parameters: Parameters) -> str:
        """What the terms of the objective say about a loss that is not finite; see :meth:`Objective.why_not_finite`.

        Parameters
        ----------
        parameters
            Those of the loss.

        Returns
        -------
        str
            Cause and remedy, empty if there is no more to say.
        """
        transitions = evaluate(self.transition_functions(parameters), self.graph, self.features, self.key)
        reasons, start = [], 0
        for term in terms_of(self.objective):
            end = start + term.n_transition_functions
            reasons.append(term.why_not_finite(transitions[start:end]))
            start = end
        return " ".join(filter(None, reasons))

    def transition_functions(self, parameters: Parameters) -> tuple[TransitionFunction, ...]:
        """The transition functions whose transition matrices enter the objective.

        Parameters
        ----------
        parameters
            The parameters.

        Returns
        -------
        tuple of TransitionFunction
            See :meth:`Loss.transition_functions`.
        """
        if self.fixed is None:
            transition_function = self.parametrization.transition_function(parameters)
            return self.objective.transition_functions(transition_function, self.features, self.key)
        distinct = [self.parametrization.transition_function(parameters, template) for template in self.fixed]
        return tuple(distinct[i] for i in self.order)


def _fix(template, objective, graph, features, key):
    known: dict[int, int] = {}
    fixed: list[TransitionFunction] = []
    transition_functions = objective.transition_functions(template, features, key)
    extended = graph
    for function in transition_functions:
        if id(function) not in known:
            known[id(function)] = len(fixed)
            fixed_function, with_edges = fix_logits(function, graph, features, prefix=f"{len(fixed)}: ")
            extended = extended.with_edges(with_edges.edges)
            fixed.append(fixed_function)
    return tuple(fixed), tuple(known[id(function)] for function in transition_functions), extended


def with_scales(
    transition_function: TransitionFunction, graph: NeighborGraph, features: Mapping[str, Features]
) -> TransitionFunction:
    """Give every velocity term that has no softmax scale the automatic one.

    See :func:`~jaxvelo.transitions.automatic_softmax_scale`.

    Parameters
    ----------
    transition_function
        A term, or a combination of some.
    graph, features
        The data that it is evaluated on.

    Returns
    -------
    TransitionFunction
        Of the same structure, with a scale in each velocity term.

    Examples
    --------
    >>> data = {"velocity": jv.transitions.Features(x, v)}
    >>> kernel = jv.fit.with_scales(jv.transitions.Velocity(), graph, data)
    >>> kernel.log_scale.shape, bool(kernel.softmax_scale > 1)
    ((), True)
    """

    def complete(term):
        if not isinstance(term, Velocity) or term.log_scale is not None:
            return term
        _, _, scale = evaluate_logits(term, graph, features[term.features_name])
        return eqx.tree_at(lambda t: t.log_scale, term, jnp.log(scale), is_leaf=lambda leaf: leaf is None)

    return jax.tree.map(complete, transition_function, is_leaf=lambda term: isinstance(term, Velocity))
