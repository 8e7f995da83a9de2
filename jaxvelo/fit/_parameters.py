"""What is fitted: unconstrained numbers inside, scales and weights of a transition function outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvelo.graph._precision import full_precision
from jaxvelo.transitions import Product, Sum, TransitionFunction, Velocity

TRAINABLE = ("scale", "weights", "numbers", "gene_weights")
"""What can be fitted, see :class:`Parametrization`."""
GENE_WEIGHT_PENALTIES = ("near_one", "sparse")
"""Names of the penalties of gene weights, see :class:`Parametrization`."""

LevelsOrFunctions = Int[Array, " cells"] | Float[Array, "cells functions"] | None
"""How a parameter differs among cells: not at all (``None``), by the level of each cell (integers), or as a linear
combination of functions of the cells (a matrix whose first column is constant)."""


class Parameters(eqx.Module):
    r"""Unconstrained parameters. What is not trained is an empty tuple.

    Attributes
    ----------
    log_scales
        :math:`\log \sigma` of each velocity term, shape ``(coefficients,)``: one, one a level, or one a function.
    weight_logits
        For each sum, logits of all weighted terms but the last, whose logit is zero; shape
        ``(coefficients, terms - 1)``. The weights are their softmax.
    log_gene_weights
        Logarithms of the gene weights of each velocity term, shape ``(genes,)``.
    numbers
        Of each kernel whose transition function has :attr:`~jaxvelo.transitions.TransitionFunction.free` leaves, these,
        shape ``(leaves,)``.

    Examples
    --------
    >>> parameters = jv.fit.Parameters(log_scales=(jnp.log(jnp.array([4.0])),))
    >>> parameters.log_scales[0].shape, parameters.weight_logits
    ((1,), ())
    """

    log_scales: tuple[Float[Array, " coefficients"], ...] = ()
    weight_logits: tuple[Float[Array, "coefficients terms"], ...] = ()
    log_gene_weights: tuple[Float[Array, " genes"], ...] = ()
    numbers: tuple[Float[Array, " leaves"], ...] = ()

    def without_gene_weights(self) -> Parameters:
        """The few numbers, whose uncertainty is looked at."""
        return Parameters(self.log_scales, self.weight_logits, (), self.numbers)

    def with_gene_weights_of(self, other: Parameters) -> Parameters:
        """These numbers with the gene weights of others.

        Parameters
        ----------
        other
            The others.

        Returns
        -------
        jaxvelo.fit.Parameters
            The numbers of the one, the gene weights of the other.
        """
        return Parameters(self.log_scales, self.weight_logits, other.log_gene_weights, self.numbers)


class Parametrization(eqx.Module):
    r"""Which leaves of a transition function are fitted, and how they follow from :class:`Parameters`.

    Attributes
    ----------
    template
        The transition function, see :class:`~jaxvelo.transitions.TransitionFunction`, with a softmax scale in all
        velocity terms: where a fit starts.
    scale_cells, weight_cells
        How scales and weights differ among cells, see :data:`LevelsOrFunctions`.
    n_genes
        Number of genes of each velocity term.
    train
        What is fitted, some of :data:`TRAINABLE`.
    scale_coefficients, weight_coefficients
        Number of coefficients behind a scale and a weight: levels or functions of the cells.
    sharing
        Which parameters each velocity term uses: terms of the same number share scale and gene weights.
    penalty
        ``"near_one"``, :math:`\frac1G \sum_g (\log w_g)^2`, or ``"sparse"``,
        :math:`(\sum_g \sqrt{w_g})^2 / (G \sum_g w_g)`, which is one for equal weights and 1/G for a single gene.
    kernels
        Number of the kernel of each term: terms of one kernel share their numbers. Each is of its own if empty.

    Examples
    --------
    >>> kernel = 0.8 * jv.transitions.Velocity(4.0) + 0.2 * jv.transitions.Connectivity()
    >>> fitted = jv.fit.Parametrization(kernel, None, None, (40,), ("scale", "weights"), 1, 1, (0,), "near_one")
    >>> start = fitted.start()
    >>> round(float(fitted.scales(start)[0]), 3), [round(float(w), 3) for w in fitted.weights(start)[0]]
    (4.0, [0.8, 0.2])
    """

    template: TransitionFunction
    scale_cells: LevelsOrFunctions
    weight_cells: LevelsOrFunctions
    n_genes: tuple[int, ...] = eqx.field(static=True)
    train: tuple[str, ...] = eqx.field(static=True)
    scale_coefficients: int = eqx.field(static=True)
    weight_coefficients: int = eqx.field(static=True)
    sharing: tuple[int, ...] = eqx.field(static=True)
    penalty: str = eqx.field(static=True)
    kernels: tuple[int, ...] = eqx.field(static=True, default=())

    def start(self) -> Parameters:
        """Parameters of the template; where these differ among cells already, of their mean."""
        terms = velocity_terms(self.template)
        first = [self.sharing.index(number) for number in sorted(set(self.sharing))]
        scales: tuple[Array, ...] = ()
        weights: tuple[Array, ...] = ()
        genes: tuple[Array, ...] = ()
        if "scale" in self.train:
            functions = _is_functions(self.scale_cells)
            scales = tuple(
                _constant(jnp.mean(_known_scale(terms[i])), self.scale_coefficients, functions) for i in first
            )
        if "weights" in self.train:
            functions = _is_functions(self.weight_cells)
            weights = tuple(
                _constant(_logits_of_weights(node), self.weight_coefficients, functions)
                for node in weighted_sums(self.template)
            )
        if "gene_weights" in self.train:
            genes = tuple(_log_gene_weights(terms[i], self.n_genes[i]) for i in first)
        numbers: tuple[Array, ...] = ()
        if "numbers" in self.train:
            every = _terms(self.template)
            numbers = tuple(
                jnp.stack([getattr(every[places[0]], name) for name in names]) for places, names in self._free()
            )
        return Parameters(scales, weights, genes, numbers)

    def _free(self) -> list[tuple[list[int], tuple[str, ...]]]:
        """Kernels with free leaves, in the order of their numbers: places among the terms, and names of the leaves."""
        found: dict[int, tuple[list[int], tuple[str, ...]]] = {}
        for i, term in enumerate(_terms(self.template)):
            if names := free_leaves(term):
                places, _ = found.setdefault(self.kernels[i] if self.kernels else i, ([], names))
                places.append(i)
        return [found[number] for number in sorted(found)]

    def number_names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the leaves behind :attr:`Parameters.numbers`, kernel by kernel."""
        return tuple(names for _, names in self._free())

    def transition_function(
        self, parameters: Parameters, template: TransitionFunction | None = None
    ) -> TransitionFunction:
        """The transition function with these parameters.

        Parameters
        ----------
        parameters
            The parameters.
        template
            Another transition function with the same terms to put them in, such as one with fixed logits.

        Returns
        -------
        TransitionFunction
            Of the template's structure.
        """
        transition_function = self.template if template is None else template
        terms = self._velocity_terms(transition_function)
        if parameters.log_scales:
            values = [_on_cells(parameters.log_scales[i], self.scale_cells) for i in self.sharing]
            values = [v.astype(_known_scale(t).dtype) for v, t in zip(values, terms, strict=True)]
            transition_function = eqx.tree_at(
                lambda f: [t.log_scale for t in self._velocity_terms(f)], transition_function, values
            )
        if parameters.weight_logits:
            nodes = weighted_sums(transition_function)
            values = [
                _all_weights(node, jax.nn.softmax(_with_last(_on_cells(logits, self.weight_cells)), axis=-1))
                for node, logits in zip(nodes, parameters.weight_logits, strict=True)
            ]
            transition_function = eqx.tree_at(
                lambda f: [s.weights for s in weighted_sums(f)], transition_function, values
            )
        if parameters.log_gene_weights:
            values = [jnp.exp(parameters.log_gene_weights[i]) for i in self.sharing]
            transition_function = eqx.tree_at(
                lambda f: [t.gene_weights for t in velocity_terms(f)],
                transition_function,
                values,
                is_leaf=lambda leaf: leaf is None,
            )
        if parameters.numbers:
            moved = [
                (i, name, value)
                for (places, names), of_kernel in zip(self._free(), parameters.numbers, strict=True)
                for i in places
                for name, value in zip(names, of_kernel, strict=True)
            ]
            transition_function = eqx.tree_at(
                lambda f: [getattr(_terms(f)[i], name) for i, name, _ in moved],
                transition_function,
                [value for *_, value in moved],
            )
        return transition_function

    def _velocity_terms(self, transition_function: TransitionFunction) -> list[Any]:
        """Its terms where the template has velocity terms: these, or what is left of them with fixed logits."""
        pairs = zip(_terms(transition_function), _terms(self.template), strict=True)
        return [term for term, original in pairs if isinstance(original, Velocity)]

    def distance(self, parameters: Parameters) -> Float[Array, ""]:
        r"""Squared distance of log scales and logits of weights from those of the template.

        .. math:: \sum (\log \sigma - \log \sigma_0)^2 +
            2 \sum_k \big( \ell_k - \ell_{0k} - \textstyle\frac1K \sum_j (\ell_j - \ell_{0j}) \big)^2

        over all levels, or coefficients of functions, and over the :math:`K` terms of each sum, whatever their order:
        of two terms, the squared change of the logit of the first one's weight. Of other numbers, the squared change.

        Parameters
        ----------
        parameters
            The parameters.

        Returns
        -------
        jax.Array
            A scalar.
        """
        first, total = self.start(), jnp.zeros(())
        for now, before in zip(parameters.log_scales, first.log_scales, strict=True):
            total = total + jnp.sum((now - before.astype(now.dtype)) ** 2)
        for now, before in zip(parameters.numbers, first.numbers, strict=True):
            total = total + jnp.sum((now - before.astype(now.dtype)) ** 2)
        for now, before in zip(parameters.weight_logits, first.weight_logits, strict=True):
            change = _with_last(now - before.astype(now.dtype))
            total = total + 2 * jnp.sum((change - jnp.mean(change, axis=-1, keepdims=True)) ** 2)
        return total

    def penalties(self, parameters: Parameters) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Penalty of the gene weights, and mean square of what makes scales and weights differ along functions.

        Parameters
        ----------
        parameters
            The parameters.

        Returns
        -------
        tuple of jax.Array
            Two scalars, each zero where there is nothing to penalise.
        """
        genes = jnp.zeros(())
        for logarithms in parameters.log_gene_weights:
            if self.penalty == "near_one":
                genes = genes + jnp.mean(logarithms**2)
            else:
                top = jax.lax.stop_gradient(jnp.max(logarithms))
                root = jnp.exp((logarithms - top) / 2)
                genes = genes + jnp.sum(root) ** 2 / (len(logarithms) * jnp.sum(root**2))
        rough = jnp.zeros(())
        for coefficients, cells in (
            *((c, self.scale_cells) for c in parameters.log_scales),
            *((c, self.weight_cells) for c in parameters.weight_logits),
        ):
            if _is_functions(cells) and len(coefficients) > 1:
                rough = rough + jnp.mean(coefficients[1:] ** 2)
        return genes, rough

    def scales(self, parameters: Parameters) -> tuple[Array, ...]:
        r"""Softmax scales :math:`\sigma`.

        Parameters
        ----------
        parameters
            The parameters.

        Returns
        -------
        tuple of jax.Array
            Of each velocity term with a scale of its own: a scalar, one for each level, or one for each cell. None if
            scales are not fitted.
        """
        return tuple(jnp.exp(_readable(c, self.scale_cells)) for c in parameters.log_scales)

    def numbers(self, parameters: Parameters) -> tuple[tuple[Array, ...], ...]:
        """What the free leaves of each kernel are the logarithms or logits of.

        Parameters
        ----------
        parameters
            The parameters.

        Returns
        -------
        tuple of tuples of jax.Array
            One number for each name of :meth:`number_names`.
        """
        return tuple(
            tuple(_INVERSES[_prefix(name)](value) for name, value in zip(names, of_kernel, strict=True))
            for names, of_kernel in zip(self.number_names(), parameters.numbers, strict=False)
        )

    def weights(self, parameters: Parameters) -> tuple[Array, ...]:
        """Weights of the weighted terms of each sum.

        Parameters
        ----------
        parameters
            The parameters.

        Returns
        -------
        tuple of jax.Array
            Shape ``(terms,)``, ``(levels, terms)`` or ``(cells, terms)``; they sum to one. None if weights are not
            fitted.
        """
        return tuple(
            jax.nn.softmax(_with_last(_readable(c, self.weight_cells)), axis=-1) for c in parameters.weight_logits
        )


_INVERSES: dict[str, Callable[[Array], Array]] = {"log_": jnp.exp, "logit_": jax.nn.sigmoid, "": lambda value: value}


def _prefix(leaf: str) -> str:
    return next(prefix for prefix in _INVERSES if leaf.startswith(prefix))


def free_leaves(term: TransitionFunction) -> tuple[str, ...]:
    r"""Names of the leaves of a term that a fit may move freely, as far as they are there.

    Of :class:`~jaxvelo.transitions.Pseudotime`, these are :math:`\log b` and :math:`\log \nu` if its scheme has them.

    Parameters
    ----------
    term
        A transition function without parts.

    Returns
    -------
    tuple of str
        Those of :attr:`TransitionFunction.free <jaxvelo.transitions.TransitionFunction.free>` that are not ``None``.

    Examples
    --------
    >>> jv.fit.free_leaves(jv.transitions.Pseudotime("soft")), jv.fit.free_leaves(jv.transitions.Pseudotime("hard"))
    (('log_b', 'log_nu'), ())
    """
    return tuple(name for name in term.free if getattr(term, name) is not None)


def readable_name(leaf: str) -> str:
    r"""Name of what a free leaf is the logarithm or the logit of, :math:`x` of :math:`\log x`.

    Parameters
    ----------
    leaf
        Name of the leaf.

    Returns
    -------
    str
        The name without ``log_`` or ``logit_`` in front.

    Examples
    --------
    >>> jv.fit.readable_name("log_b"), jv.fit.readable_name("logit_conn_weight")
    ('b', 'conn_weight')
    """
    return leaf.removeprefix(_prefix(leaf))


def _nodes(transition_function: TransitionFunction) -> Iterator[TransitionFunction]:
    """A transition function and all in it: an outer one before those in it, from left to right."""
    yield transition_function
    for part in transition_function.parts:
        yield from _nodes(part)


def _terms(transition_function: TransitionFunction) -> list[TransitionFunction]:
    return [node for node in _nodes(transition_function) if not node.parts]


def velocity_terms(transition_function: TransitionFunction) -> list[Velocity]:
    """Velocity terms of a transition function, see :class:`~jaxvelo.transitions.Velocity`.

    Parameters
    ----------
    transition_function
        A term, or a combination of some.

    Returns
    -------
    list of Velocity
        From left to right.

    Examples
    --------
    >>> kernel = 0.8 * jv.transitions.Velocity(4.0) + 0.2 * jv.transitions.Connectivity()
    >>> [round(float(term.softmax_scale), 3) for term in jv.fit.velocity_terms(kernel)]
    [4.0]
    """
    return [term for term in _terms(transition_function) if isinstance(term, Velocity)]


def weighted_sums(transition_function: TransitionFunction) -> list[Sum]:
    """Sums with at least two weighted terms in a transition function, see :class:`~jaxvelo.transitions.Sum`.

    Parameters
    ----------
    transition_function
        A term, or a combination of some.

    Returns
    -------
    list of Sum
        An outer one before those in it, from left to right.

    Examples
    --------
    >>> kernel = 0.75 * jv.transitions.Velocity(4.0) + 0.25 * jv.transitions.Connectivity()
    >>> [total.weights.tolist() for total in jv.fit.weighted_sums(kernel)]
    [[0.75, 0.25]]
    """
    return [node for node in _nodes(transition_function) if isinstance(node, Sum) and len(_weighted(node)) > 1]


def _known_scale(term: Velocity) -> Array:
    assert term.log_scale is not None, "complete the template with `with_scales` first"
    return term.log_scale


def _weighted(node: Sum) -> list[int]:
    return [i for i, child in enumerate(node.children) if not (isinstance(child, Product) and not child.normalized)]


def _logits_of_weights(node: Sum) -> Float[Array, " terms"]:
    weights = node.weights if node.weights.ndim == 1 else jnp.mean(node.weights, axis=1)
    logits = jnp.log(weights[jnp.asarray(_weighted(node))])
    return logits[:-1] - logits[-1]


def _all_weights(node: Sum, weights: Array) -> Array:
    """Weights of all terms, from those of the weighted ones: shape ``(terms,)`` or ``(terms, cells)``."""
    every = jnp.ones((len(node.children), *weights.shape[:-1]), node.weights.dtype)
    return every.at[jnp.asarray(_weighted(node))].set(jnp.moveaxis(weights, -1, 0).astype(every.dtype))


def _log_gene_weights(term: Velocity, n_genes: int) -> Float[Array, " genes"]:
    if term.gene_weights is None:
        return jnp.zeros(n_genes)
    tiny = jnp.finfo(term.gene_weights.dtype).tiny
    return jnp.log(jnp.maximum(term.gene_weights, tiny))


def _is_functions(cells: LevelsOrFunctions) -> bool:
    return cells is not None and cells.ndim == 2


def _constant(value: Array, n_coefficients: int, functions: bool) -> Array:
    """Coefficients of a parameter that is the same for all cells."""
    coefficients = jnp.broadcast_to(value[None], (n_coefficients, *value.shape))
    return coefficients.at[1:].set(0) if functions else coefficients + 0


@full_precision
def _on_cells(coefficients: Array, cells: LevelsOrFunctions) -> Array:
    """Value of a parameter: one, or one for each cell along the first axis."""
    if cells is None:
        return coefficients[0]
    return cells.astype(coefficients.dtype) @ coefficients if _is_functions(cells) else coefficients[cells]


def _readable(coefficients: Array, cells: LevelsOrFunctions) -> Array:
    """The same, but with one value for each level."""
    return coefficients if cells is not None and cells.ndim == 1 else _on_cells(coefficients, cells)


def _with_last(logits: Array) -> Array:
    return jnp.concatenate([logits, jnp.zeros((*logits.shape[:-1], 1), logits.dtype)], axis=-1)
