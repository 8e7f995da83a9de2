"""From a kernel and a user's wishes to a problem of :mod:`jaxvelo.fit`, and back to a kernel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxvelo import fit
from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.cells import chosen_cells
from jaxvelo.annotated.clusters import cluster_codes
from jaxvelo.kernels import KernelAdd, KernelExpression, VelocityKernel
from jaxvelo.transitions import Expression, Features, Velocity

N_FUNCTIONS = 10
"""Smooth functions on the graph behind weights or scales that differ from cell to cell."""


@dataclasses.dataclass(frozen=True)
class KernelProblem:
    """A kernel as a problem of optimisation.

    Attributes
    ----------
    kernel
        The kernel.
    objective
        The loss.
    problem
        The problem.
    velocity_kernels
        Velocity kernels of the kernel, each once, in the order of the parameters.
    sums
        Sums with at least two weighted terms, in the order of the parameters.
    levels
        Names of the levels of scale and weights, where they differ by level.
    """

    kernel: KernelExpression
    objective: fit.Loss
    problem: fit.Problem
    velocity_kernels: tuple[VelocityKernel, ...]
    sums: tuple[KernelAdd, ...]
    levels: dict[str, list[str]]

    @classmethod
    def of(
        cls,
        kernel: KernelExpression,
        objective: fit.Loss,
        train: Mapping[str, Any] | Sequence[str] | None,
        key: jax.Array,
    ) -> KernelProblem:
        """Check what the user wants, and prepare it.

        Parameters
        ----------
        kernel
            The kernel, computed.
        objective
            The loss.
        train
            What to fit, see :func:`jaxvelo.tl.fit_kernel`.
        key
            Random key.
        """
        check_kernel_and_objective(kernel, objective)
        kernel.require_transitions()
        velocity_kernels = {i: leaf for i, leaf in enumerate(kernel.kernels) if isinstance(leaf, VelocityKernel)}
        places = [i for i in kernel.occurrences if i in velocity_kernels]
        distinct, sums = tuple(velocity_kernels.values()), kernel.weighted_sums
        wishes = _wishes(train, bool(distinct), bool(sums))
        features = kernel.features
        if "gene_weights" in wishes:
            # Gene weights do not cover padding. Otherwise, padded features share the programs of the kernels.
            features = {name: _unpadded(f, kernel.shape[0]) for name, f in features.items()}
        _check_objective(objective, kernel, features)
        expression = kernel.expression
        if "scale" in wishes:
            expression = _without_scales(expression)
        expression = fit.with_scales(expression, kernel.graph, features)
        scale_cells, n_scale, scale_levels = _cells(kernel, wishes.get("scale"), "scale")
        weight_cells, n_weight, weight_levels = _cells(kernel, wishes.get("weights"), "weights")
        numbers = {place: number for number, place in enumerate(velocity_kernels)}
        parametrization = fit.Parametrization(
            template=expression,
            scale_cells=scale_cells,
            weight_cells=weight_cells,
            n_genes=tuple(len(velocity_kernels[i].genes) for i in places),
            train=tuple(wishes),
            scale_coefficients=n_scale,
            weight_coefficients=n_weight,
            sharing=tuple(numbers[i] for i in places),
            penalty="sparse" if wishes.get("gene_weights") == "sparse" else "near_one",
        )
        problem = fit.Problem.prepare(parametrization, objective, kernel.graph, features, key)
        levels = {"softmax_scale": scale_levels, "weights": weight_levels}
        found = {name: values for name, values in levels.items() if values}
        return cls(kernel, objective, problem, distinct, sums, found)

    @functools.cached_property
    def start(self) -> fit.Parameters:
        """Parameters of the convention."""
        return _start(self.problem.parametrization)

    @property
    def has_errors(self) -> bool:
        """Whether fitted parameters get standard errors: scales and weights of a likelihood, or a multiple of one."""
        terms, factors = fit.terms_of(self.objective), np.asarray(fit.coefficients_of(self.objective))
        is_likelihood = len(terms) == 1 and terms[0].is_likelihood and bool(factors[0] > 0)
        return is_likelihood and bool(self.start.log_scales or self.start.weight_logits)

    def shares(self) -> np.ndarray:
        """Weights of the convention that are fitted."""
        _, weights, _ = _readable(self.problem.parametrization, self.start)
        return np.concatenate([np.ravel(w) for w in weights]) if weights else np.ones(0)

    def readable(self, parameters: fit.Parameters) -> dict[str, np.ndarray]:
        """Scales, weights and gene weights by name; numbered where there are several."""
        return self.named(*_readable(self.problem.parametrization, parameters))

    def named(self, scales: Sequence[Any], weights: Sequence[Any], genes: Sequence[Any] = ()) -> dict[str, np.ndarray]:
        """Give names to values in the order of the parameters."""
        named = {}
        for name, values in (("softmax_scale", scales), ("weights", weights), ("gene_weights", genes)):
            for i, value in enumerate(values):
                named[name if len(values) == 1 else f"{name}_{i}"] = np.asarray(value, dtype=np.float64)
        return named

    def fitted_kernel(self, parameters: fit.Parameters, seed: Any) -> KernelExpression:
        """The kernel with these parameters, computed."""
        expression, weights = _expression(self.problem.parametrization, parameters)
        terms = fit.velocity_terms(expression)
        sharing = self.problem.parametrization.sharing
        computed = []
        for number, leaf in enumerate(self.velocity_kernels):
            term = terms[sharing.index(number)]
            assert isinstance(term, Velocity)
            # What is not fitted is taken from the kernel itself: the expression may have rounded it.
            scale: Any = leaf.params["softmax_scale"]
            if parameters.log_scales:
                scale = np.asarray(term.softmax_scale, dtype=np.float64)
            genes = leaf.params.get("gene_weights")
            if parameters.log_gene_weights:
                genes = np.asarray(term.gene_weights, dtype=np.float64)
            computed.append(leaf.with_parameters(scale, genes, seed))
        new = iter(computed)
        kernels = [next(new) if isinstance(leaf, VelocityKernel) else leaf for leaf in self.kernel.kernels]
        if not parameters.weight_logits:
            return self.kernel.with_kernels(kernels)
        # Kernels take positive weights only: one that single precision rounded to zero becomes the smallest there is.
        least = np.finfo(np.float32).tiny
        positive = [np.maximum(np.asarray(shares, dtype=np.float64), least) for shares in weights]
        counted = [
            [own for own, weight in zip(shares, node.weights, strict=True) if weight is not None]
            for shares, node in zip(positive, self.sums, strict=True)
        ]
        return self.kernel.with_kernels(kernels, counted)

    def item_cells(self) -> np.ndarray:
        """Mask of the cells that the objective has items of."""
        mask = np.zeros(self.kernel.shape[0], dtype=bool)
        for term in fit.terms_of(self.objective):
            mask[np.asarray(term.cell)[np.asarray(term.weight) > 0]] = True
        return mask


@eqx.filter_jit
def _start(parametrization: fit.Parametrization):
    return parametrization.start()


@eqx.filter_jit
def _readable(parametrization: fit.Parametrization, parameters: fit.Parameters):
    genes = tuple(jnp.exp(logarithms) for logarithms in parameters.log_gene_weights)
    return parametrization.scales(parameters), parametrization.weights(parameters), genes


@eqx.filter_jit
def _expression(parametrization: fit.Parametrization, parameters: fit.Parameters):
    expression = parametrization.expression(parameters)
    return expression, tuple(node.normalized_weights() for node in fit.weighted_sums(expression))


def split_cells(problem: KernelProblem, validation: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the training and of the validation cells.

    Parameters
    ----------
    problem
        The problem.
    validation
        ``None``, a fraction of the cells that the objective has items of, or cells.
    seed
        Random seed for a fraction.
    """
    known = problem.item_cells()
    n_known = int(known.sum())
    if validation is None:
        return known, np.zeros_like(known)
    if isinstance(validation, (float, np.floating)):
        if not 0 < validation < 1:
            raise ValueError(f"Expected `validation` to be a fraction between 0 and 1, found `{validation}`.")
        chosen = np.random.default_rng(seed).permutation(np.flatnonzero(known))[: round(validation * n_known)]
        held_out = np.zeros_like(known)
        held_out[chosen] = True
    else:
        held_out = chosen_cells(problem.kernel.adata, validation, "validation") & known
    if held_out.sum() < 2:
        raise ValueError(
            f"Expected at least two validation cells that the objective has items of, found {held_out.sum()} (it has "
            f"items of {n_known} cells). Pass a larger fraction, other cells, or `validation=None`."
        )
    if not (known & ~held_out).any():
        raise ValueError("Expected some cells to fit on, found all of them in `validation`.")
    return known & ~held_out, held_out


def check_kernel_and_objective(kernel: Any, objective: Any) -> None:
    """Raise a TypeError unless these are a kernel and an objective."""
    if not isinstance(kernel, KernelExpression):
        raise TypeError(f"Expected a kernel, found `{type(kernel).__name__}`.")
    if not isinstance(objective, fit.Loss):
        raise TypeError(
            f"Expected an objective of `jaxvelo.objectives`, found `{type(objective).__name__}`. Wrap a function "
            "of the transition matrix as `jaxvelo.objectives.FunctionOf(adata, function)`."
        )


def _wishes(train: Mapping[str, Any] | Sequence[str] | None, has_velocity: bool, has_sum: bool) -> dict[str, Any]:
    """What to fit, in the order of :data:`jaxvelo.fit.TRAINABLE`, and how it differs among cells."""
    possible = {"scale": has_velocity, "weights": has_sum, "gene_weights": has_velocity}
    if train is None:
        train = [name for name in ("scale", "weights") if possible[name]]
    if isinstance(train, str):
        train = [train]
    given = dict(train) if isinstance(train, Mapping) else dict.fromkeys(train, True)
    unknown = [name for name in given if name not in fit.TRAINABLE]
    if unknown:
        raise ValueError(f"Expected `train` to name some of {fit.TRAINABLE}, found {listed(unknown)}.")
    given = {name: given[name] for name in fit.TRAINABLE if given.get(name) not in (None, False)}
    if not given:
        raise ValueError(f"Expected `train` to name some of {fit.TRAINABLE}, found none that this kernel has.")
    for name in given:
        if not possible[name]:
            needed = "a sum of at least two weighted kernels" if name == "weights" else "a `VelocityKernel`"
            raise ValueError(f"Expected {needed} to fit {name!r}, found none in the kernel.")
    kind = given.get("gene_weights")
    if kind not in (None, True, *fit.PENALTIES):
        raise ValueError(f"Expected `train['gene_weights']` to be True or one of {fit.PENALTIES}, found `{kind!r}`.")
    return given


def _cells(kernel: KernelExpression, wish: Any, name: str) -> tuple[fit.Cells, int, list[str]]:
    """How a parameter differs among cells, by how many coefficients, and the names of its levels."""
    if wish in (None, True):
        return None, 1, []
    if wish == "smooth":
        n_functions = min(N_FUNCTIONS, kernel.shape[0] - 1)
        weights = next(iter(kernel.graph_data.matrices.values()))
        return jnp.asarray(fit.smooth_functions(weights, n_functions), dtype=float), n_functions, []
    if not isinstance(wish, str):
        raise TypeError(f"Expected `train[{name!r}]` to be True, 'smooth' or a key in `adata.obs`, found `{wish!r}`.")
    codes, names = cluster_codes(kernel.adata, wish)
    if (codes < 0).any():
        raise ValueError(f"Expected a level of `adata.obs[{wish!r}]` for each cell, found {(codes < 0).sum()} without.")
    return jnp.asarray(codes, dtype=jnp.int32), len(names), names


def _check_objective(objective: fit.Loss, kernel: KernelExpression, features: Mapping[str, Features]) -> None:
    """Raise a ValueError unless the objective can be computed of the kernel; it says itself what must hold."""
    n_cells = kernel.shape[0]
    for term in fit.terms_of(objective):
        if term.n_cells not in (None, n_cells):
            raise ValueError(f"Expected an objective on the kernel's {n_cells} cells, found one on {term.n_cells}.")
        if term.n_cells is None and (np.asarray(term.cell) >= n_cells).any():
            raise ValueError(f"Expected an objective on the kernel's {n_cells} cells, found one on more.")
        missing = [name for name in term.feature_names if name not in features]
        if missing:
            raise ValueError(
                f"Expected a kernel on the features {missing[0]!r} of the objective, found {listed(features)}. "
                "Build the objective with the kernel's `xkey`, `vkey`, `attr` and `gene_subset`."
            )
        term.check(kernel.transitions, kernel.adata.obs_names)


def _without_scales(expression: Expression) -> Expression:
    def forget(term):
        if not isinstance(term, Velocity):
            return term
        return eqx.tree_at(lambda t: t.log_scale, term, None, is_leaf=lambda leaf: leaf is None)

    return jax.tree.map(forget, expression, is_leaf=lambda term: isinstance(term, Velocity))


def _unpadded(features: Features, n_cells: int) -> Features:
    n_genes = features.x.shape[1] if features.n_genes is None else int(features.n_genes)
    return Features(features.x[:n_cells, :n_genes], features.v[:n_cells, :n_genes])
