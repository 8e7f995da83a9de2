"""Whether a fit can go on from an earlier result."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from jaxvelo import fit
from jaxvelo.fitting._descent import best_of
from jaxvelo.fitting._fit_result import FitResult
from jaxvelo.fitting._kernel_problem import KernelProblem
from jaxvelo.fitting._scores import as_doubles, item_losses, mean_loss, shares

RESUME_TOLERANCE = 1e-4
"""Largest difference of two losses of the same parameters, relative to the mean size of the losses of the items; above
zero, as devices round differently."""


def check_same_restraints(
    resume: FitResult, prior: float | None, penalty: float | None, outside: float, groups: str | None
) -> None:
    """Raise a ValueError if arguments that are given are not those of the fit to resume: its loss would be another."""
    given = {"prior": prior, "penalty": penalty, "outside": outside, "groups": groups}
    for name, value in given.items():
        before = getattr(resume, name)
        if value is not None and value != before:
            raise ValueError(
                f"Expected `{name}` as in the fit to resume, `{before!r}`, found `{value!r}`: its loss would be "
                "another one. Leave it out, or fit anew."
            )


def checked_state(
    resume: FitResult, first: fit.Parameters, problem: KernelProblem, optimizer: optax.GradientTransformation
) -> fit.DescentState:
    """State to go on from; a ValueError if it is that of another fit."""
    if resume.state is None:
        raise ValueError("Expected a result of `fit_kernel` to resume, found one read from AnnData: fit anew.")
    shapes, expected = (
        [(jax.tree_util.keystr(path), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(parameters)]
        for parameters in (resume.state.parameters, first)
    )
    if shapes != expected:
        raise ValueError("Expected the same kernel, `train` and `starts` as of the fit to resume, found others.")
    begun: Any = jax.tree.structure(jax.eval_shape(optimizer.init, resume.state.parameters))
    if begun != jax.tree.structure(resume.state.optimizer):
        raise ValueError(
            "Expected the optimiser of the fit to resume, found another one, which cannot go on from its state."
        )
    if len(resume.training) != problem.kernel.shape[0]:
        raise ValueError(
            f"Expected the kernel of the fit to resume, on {len(resume.training)} cells, found one on "
            f"{problem.kernel.shape[0]}."
        )
    if resume.objective != problem.name:
        raise ValueError(f"Expected the objective of the fit to resume, `{resume.objective}`, found `{problem.name}`.")
    losses = as_doubles(item_losses(problem.problem, best_of(resume.state, resume.start))[0])
    for name, cells in (("training", resume.training), ("validation", resume.validation)):
        loss, before = mean_loss(problem.objective, losses, cells), resume.scores[name]
        # The losses themselves may cancel each other.
        terms = zip(shares(problem.objective, cells), losses, strict=True)
        size = sum(abs(coefficient) * share @ np.abs(part) for (coefficient, _, share), part in terms)
        if cells.any() and not abs(loss - before) <= RESUME_TOLERANCE * size:
            raise ValueError(
                f"Expected the data of the fit to resume, with a loss of {before:.6g} on the {name} cells, found one "
                f"of {loss:.6g} with its parameters. Fit anew."
            )
    return resume.state
