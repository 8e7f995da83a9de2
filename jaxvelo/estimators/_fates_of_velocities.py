"""Fates as a differentiable function of the velocities that a kernel was computed from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxvelo.kernels import KernelExpression, VelocityKernel
from jaxvelo.markov import Absorption, Outcome, absorption_probabilities
from jaxvelo.transitions import Features


@dataclasses.dataclass(frozen=True)
class VelocityFates:
    """A kernel, its velocities and its terminal states.

    Attributes
    ----------
    kernel
        The kernel of the velocities, itself or a part of what follows.
    chance
        Whatever the fates depend on beside the velocities: transition function, graph, data and a random key.
    features
        Expression and velocity; perhaps padded.
    terminal
        Class of each terminal cell, -1 for all others.
    names
        Names of the classes.
    """

    kernel: VelocityKernel
    chance: Any
    features: Features
    terminal: Int[np.ndarray, " cells"]
    names: tuple[str, ...]

    @classmethod
    def of_kernel(cls, kernel: KernelExpression, terminal: Any, names: Sequence[str]) -> VelocityFates:
        """Check kernel and terminal states.

        Raises
        ------
        TypeError
            If ``kernel`` is none, or no part of it has velocities.
        ValueError
            If parts of it have different velocities, or the terminal states are not as expected.
        RuntimeError
            If its transition matrix was not computed.
        """
        if not isinstance(kernel, KernelExpression):
            raise TypeError(f"Expected `kernel` to be a kernel, found `{type(kernel).__name__}`.")
        parts = [part for part in kernel.kernels if isinstance(part, VelocityKernel)]
        if not parts:
            raise TypeError(
                f"Expected a velocity kernel, or a combination with one, found `{kernel}`. Without velocities, there "
                "is nothing that the fates could change with."
            )
        if len({part.features_name for part in parts}) > 1:
            raise ValueError(
                f"Expected one set of velocities, found {sorted({part.features_name for part in parts})}. Combine "
                "kernels of the same velocities and genes."
            )
        kernel.require_transitions()
        names = tuple(map(str, names))
        classes = _checked_classes(terminal, kernel.shape[0], names)
        data = kernel.features
        features = data[parts[0].features_name]
        others = {name: part for name, part in data.items() if name != parts[0].features_name}
        chance = kernel.transition_function, kernel.graph, others, jax.random.key(0), jnp.asarray(classes)
        return cls(parts[0], chance, features, classes, names)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes, without padding."""
        return self.kernel.shape[0], len(self.kernel.genes)

    def padded(self, values: Float[np.ndarray, "cells genes"]) -> Float[Array, "rows columns"]:
        """Values of cells and genes as an array of the shape of the velocities, zero beyond."""
        found = np.zeros(self.features.v.shape, dtype=self.features.v.dtype)
        found[: self.shape[0], : self.shape[1]] = values
        return jnp.asarray(found)

    def require(self, outcome: Any) -> None:
        """Raise an ArithmeticError with the cause, unless the fates are known."""
        worst = max(int(code) for code in np.ravel(np.asarray(outcome)))
        if worst != Outcome.SOLVED:
            raise ArithmeticError(f"Expected fates that are known, found none. {Outcome(worst).explanation}")


def fates_of_velocities(
    v: Float[Array, "rows columns"], features: Features, chance: Any, name: str, n_fates: int
) -> Absorption:
    """Fates with other velocities, pure and differentiable; the softmax scale stays as it is.

    Parameters
    ----------
    v
        The velocities, in the shape of those of ``features``.
    features, chance
        As of :class:`VelocityFates`.
    name
        Name of the features in the kernel's data.
    n_fates
        Number of classes of terminal cells.
    """
    transition_function, graph, others, key, terminal = chance
    data = {**others, name: Features(features.x, v, features.n_genes)}
    return absorption_probabilities(transition_function(graph, data, key=key), terminal, n_fates)


def _checked_classes(terminal: Any, n_cells: int, names: tuple[str, ...]) -> Int[np.ndarray, " cells"]:
    classes = np.asarray(terminal)
    if classes.shape != (n_cells,) or classes.dtype.kind not in "iu":
        raise ValueError(
            f"Expected `terminal` to be one integer for each of the {n_cells} cells (the class of a terminal cell, -1 "
            f"for all others), found {classes.dtype} of shape {classes.shape}."
        )
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"Expected one name for each class of terminal cells, each once, found {list(names)}.")
    found = np.unique(classes[classes >= 0])
    if not np.array_equal(found, np.arange(len(names))) or classes.min() < -1:
        raise ValueError(
            f"Expected terminal cells of the {len(names)} classes 0 to {len(names) - 1}, and -1 for all other cells, "
            f"found {np.unique(classes).tolist()}."
        )
    if not (classes < 0).any():
        raise ValueError("Expected cells that are not terminal, found none.")
    return classes.astype(np.int32)
