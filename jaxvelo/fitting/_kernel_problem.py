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
import scipy.sparse as sp
from jaxtyping import Bool, Int
from scipy.sparse.csgraph import connected_components

from jaxvelo import fit
from jaxvelo.annotated.arguments import listed
from jaxvelo.configuration import logger
from jaxvelo.fitting._outside import cells_outside
from jaxvelo.fitting._trained import APART, differing_cells, wishes
from jaxvelo.kernels import KernelAdd, KernelExpression, VelocityKernel
from jaxvelo.transitions import Features, TransitionFunction, Velocity


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
    outside
        Mask of the cells of which the items tell nothing, and whose outlook is to stay.
    seed
        Random seed, of everything that is drawn.
    """

    kernel: KernelExpression
    objective: fit.Loss
    problem: fit.Problem
    velocity_kernels: tuple[VelocityKernel, ...]
    sums: tuple[KernelAdd, ...]
    levels: dict[str, list[str]]
    outside: Bool[np.ndarray, " cells"]
    seed: int

    @classmethod
    def of(
        cls,
        kernel: KernelExpression,
        objective: fit.Loss,
        train: Mapping[str, Any] | Sequence[str] | None,
        seed: int,
        keeps_outside: bool = False,
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
        seed
            Random seed.
        keeps_outside
            Whether the outlook of cells of which the items tell nothing is to stay.
        """
        check_kernel_and_objective(kernel, objective)
        kernel.require_transitions()
        velocity_kernels = {i: leaf for i, leaf in enumerate(kernel.kernels) if isinstance(leaf, VelocityKernel)}
        places = [i for i in kernel.occurrences if i in velocity_kernels]
        distinct, sums = tuple(velocity_kernels.values()), kernel.weighted_sums
        with_numbers = [i for i, leaf in enumerate(kernel.kernels) if fit.free_leaves(leaf.transition_function)]
        wished = wishes(train, bool(distinct), bool(sums), bool(with_numbers))
        features = kernel.features
        if "gene_weights" in wished:
            # Gene weights do not cover padding. Otherwise, padded features share the programs of the kernels.
            features = {name: _unpadded(f, kernel.shape[0]) for name, f in features.items()}
        _check_objective(objective, kernel, features)
        transition_function = kernel.transition_function
        if "scale" in wished:
            transition_function = _without_scales(transition_function)
        transition_function = fit.with_scales(transition_function, kernel.graph, features)
        is_asked = isinstance(train, Mapping) and APART in (wished.get("scale"), wished.get("weights"))
        outside = np.zeros(kernel.shape[0], dtype=bool)
        if keeps_outside or is_asked:
            outside = cells_outside(kernel, objective)
        if is_asked and not outside.any():
            logger.warning(
                "The items of the objective tell something of all cells: `train` = %r fits one value for all", APART
            )
        scale_cells, n_scale, scale_levels = differing_cells(kernel, wished.get("scale"), "scale", outside)
        weight_cells, n_weight, weight_levels = differing_cells(kernel, wished.get("weights"), "weights", outside)
        numbers = {place: number for number, place in enumerate(velocity_kernels)}
        parametrization = fit.Parametrization(
            template=transition_function,
            scale_cells=scale_cells,
            weight_cells=weight_cells,
            n_genes=tuple(len(velocity_kernels[i].genes) for i in places),
            train=tuple(wished),
            scale_coefficients=n_scale,
            weight_coefficients=n_weight,
            sharing=tuple(numbers[i] for i in places),
            penalty="sparse" if wished.get("gene_weights") == "sparse" else "near_one",
            kernels=tuple(kernel.occurrences),
        )
        kept = jnp.asarray(outside, dtype=float) if keeps_outside and outside.any() else None
        problem = fit.Problem.prepare(parametrization, objective, kernel.graph, features, jax.random.key(seed), kept)
        levels = {"softmax_scale": scale_levels, "weights": weight_levels}
        found = {name: values for name, values in levels.items() if values}
        return cls(kernel, objective, problem, distinct, sums, found, outside, seed)

    @property
    def name(self) -> str:
        """Name of the objective."""
        return objective_name(self.objective)

    @property
    def connectivities(self) -> sp.csr_matrix:
        """Weights of the kernel's graph."""
        return next(iter(self.kernel.graph_data.matrices.values()))

    @functools.cached_property
    def start(self) -> fit.Parameters:
        """Parameters of the convention."""
        return _start(self.problem.parametrization)

    @property
    def has_errors(self) -> bool:
        """Whether fitted parameters get standard errors: scales and weights of a likelihood, or a multiple of one."""
        terms, factors = fit.terms_of(self.objective), np.asarray(fit.coefficients_of(self.objective))
        is_likelihood = len(terms) == 1 and terms[0].is_likelihood and bool(factors[0] > 0)
        return is_likelihood and self.has_prior

    @property
    def has_prior(self) -> bool:
        """Whether scales, weights or other numbers are fitted, which have a prior."""
        return bool(self.start.log_scales or self.start.weight_logits or self.start.numbers)

    def count_observations(self, cells: Bool[np.ndarray, " cells"]) -> float:
        """Number of observations that the loss on some cells is the mean of, as a mean over the terms."""
        chosen = jnp.asarray(cells[None], dtype=float)
        return float(np.mean([float(term.weights_in(chosen).sum()) for term in fit.terms_of(self.objective)]))

    @functools.cached_property
    def units(self) -> Int[np.ndarray, " cells"]:
        """Number of each cell's unit: the cell alone, or all that are joined to it by items of several cells."""
        n_cells = self.kernel.shape[0]
        joined = sp.csr_matrix((n_cells, n_cells))
        for term in fit.terms_of(self.objective):
            for cells in term.joint_cells:
                others = np.broadcast_to(cells[0], cells.shape)
                joined = joined + sp.csr_matrix((np.ones(len(cells)), (cells, others)), shape=joined.shape)
        return connected_components(joined, directed=False)[1]

    def keeping(self, outlooks: Sequence[Any]) -> KernelProblem:
        """The same with these outlooks, of each term of the objective, as what is to stay outside."""
        if self.problem.outside is None:
            return self
        kept = dataclasses.replace(self.problem, before=tuple(outlooks))
        return dataclasses.replace(self, problem=kept)

    @property
    def has_gene_weights(self) -> bool:
        """Whether gene weights are fitted."""
        return "gene_weights" in self.problem.parametrization.train

    def gene_names(self, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Names of the genes of each of the gene weights among readable parameters."""
        named = (name for name in parameters if name.startswith("gene_weights"))
        return {
            name: kernel.genes.astype(str).astype(object)
            for name, kernel in zip(named, self.velocity_kernels, strict=False)
        }

    def shares(self) -> np.ndarray:
        """Weights of the convention that are fitted."""
        _, weights, *_ = _readable(self.problem.parametrization, self.start)
        return np.concatenate([np.ravel(w) for w in weights]) if weights else np.ones(0)

    def readable(self, parameters: fit.Parameters) -> dict[str, np.ndarray]:
        """Scales, weights and gene weights by name; numbered where there are several."""
        return self.named(*_readable(self.problem.parametrization, parameters))

    def named(
        self,
        scales: Sequence[Any],
        weights: Sequence[Any],
        numbers: Sequence[Sequence[Any]] = (),
        genes: Sequence[Any] = (),
    ) -> dict[str, np.ndarray]:
        """Give names to values in the order of the parameters."""
        named = {}
        others: dict[str, list[Any]] = {}
        for names, of_kernel in zip(self.problem.parametrization.number_names(), numbers, strict=False):
            for leaf, value in zip(names, of_kernel, strict=True):
                others.setdefault(fit.readable_name(leaf), []).append(value)
        for name, values in (
            ("softmax_scale", scales), ("weights", weights), *others.items(), ("gene_weights", genes),
        ):  # fmt: skip
            for i, value in enumerate(values):
                named[name if len(values) == 1 else f"{name}_{i}"] = np.asarray(value, dtype=np.float64)
        return named

    def fitted_kernel(self, parameters: fit.Parameters) -> KernelExpression:
        """The kernel with these parameters, computed."""
        transition_function, weights = _transition_function(self.problem.parametrization, parameters)
        terms = fit.velocity_terms(transition_function)
        sharing = self.problem.parametrization.sharing
        computed = []
        for number, leaf in enumerate(self.velocity_kernels):
            term = terms[sharing.index(number)]
            assert isinstance(term, Velocity)
            # What is not fitted is taken from the kernel itself: the transition function may have rounded it.
            scale: Any = leaf.params["softmax_scale"]
            if parameters.log_scales:
                scale = np.asarray(term.softmax_scale, dtype=np.float64)
            genes = leaf.params.get("gene_weights")
            if parameters.log_gene_weights:
                genes = np.asarray(term.gene_weights, dtype=np.float64)
            computed.append(leaf.with_parameters(scale, genes, self.seed))
        new = iter(computed)
        kernels = [next(new) if isinstance(leaf, VelocityKernel) else leaf for leaf in self.kernel.kernels]
        numbers = _readable(self.problem.parametrization, parameters)[2]
        moved = [i for i, leaf in enumerate(kernels) if fit.free_leaves(leaf.transition_function)]
        names = self.problem.parametrization.number_names()
        for i, leaves, values in zip(moved, names, numbers, strict=False):
            readable = {fit.readable_name(leaf): float(v) for leaf, v in zip(leaves, values, strict=True)}
            kernels[i] = kernels[i].with_numbers(readable)
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
            mask[term.cells_with_items] = True
        return mask


@eqx.filter_jit
def _start(parametrization: fit.Parametrization):
    return parametrization.start()


@eqx.filter_jit
def _readable(parametrization: fit.Parametrization, parameters: fit.Parameters):
    genes = tuple(jnp.exp(logarithms) for logarithms in parameters.log_gene_weights)
    numbers = parametrization.numbers(parameters)
    return parametrization.scales(parameters), parametrization.weights(parameters), numbers, genes


@eqx.filter_jit
def _transition_function(parametrization: fit.Parametrization, parameters: fit.Parameters):
    transition_function = parametrization.transition_function(parameters)
    return transition_function, tuple(node.normalized_weights() for node in fit.weighted_sums(transition_function))


def objective_name(objective: fit.Loss) -> str:
    """Name an objective by its terms and their coefficients."""
    terms = zip(np.asarray(fit.coefficients_of(objective)), fit.terms_of(objective), strict=True)
    return " + ".join(("" if c == 1 else f"{c:.3g} * ") + type(term).__name__ for c, term in terms)


def check_kernel_and_objective(kernel: Any, objective: Any) -> None:
    """Raise a TypeError unless these are a kernel and an objective."""
    if not isinstance(kernel, KernelExpression):
        raise TypeError(f"Expected a kernel, found `{type(kernel).__name__}`.")
    if not isinstance(objective, fit.Loss):
        raise TypeError(
            f"Expected an objective of `jaxvelo.objectives`, found `{type(objective).__name__}`. Wrap a function "
            "of the transition matrix as `jaxvelo.objectives.FunctionOf(adata, function)`."
        )


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


def _without_scales(transition_function: TransitionFunction) -> TransitionFunction:
    def forget(term):
        if not isinstance(term, Velocity):
            return term
        return eqx.tree_at(lambda t: t.log_scale, term, None, is_leaf=lambda leaf: leaf is None)

    return jax.tree.map(forget, transition_function, is_leaf=lambda term: isinstance(term, Velocity))


def _unpadded(features: Any, n_cells: int) -> Any:
    if not isinstance(features, Features):
        return features
    n_genes = features.x.shape[1] if features.n_genes is None else int(features.n_genes)
    return Features(features.x[:n_cells, :n_genes], features.v[:n_cells, :n_genes])
