"""The loss of a fit and its gradient: the one program that takes long, to compile and to run."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxvelo.fit._objective import size_of
from jaxvelo.fit._parameters import Parameters
from jaxvelo.fit._problem import Problem
from jaxvelo.graph._precision import full_precision


class DescentSetting(eqx.Module):
    """What differs among runs of one problem.

    Attributes
    ----------
    training, validation
        Weight of each cell in the loss, and in the validation loss that is recorded, shape ``(cells,)``.
    gene_penalty, roughness_penalty
        Factors of the two penalties of :meth:`Parametrization.penalties`, as all factors in units of the loss: the sum
        of the sizes of its coefficients.
    prior
        Factor of :meth:`Parametrization.distance`.
    outside_penalty
        Factor of :meth:`Problem.change_outside`.

    Examples
    --------
    >>> training = jnp.array([1.0, 1.0, 0.0])
    >>> setting = jv.fit.DescentSetting(training, 1 - training, *jnp.zeros(4))
    >>> setting.validation.tolist(), float(setting.prior)
    ([0.0, 0.0, 1.0], 0.0)
    """

    training: Float[Array, " cells"]
    validation: Float[Array, " cells"]
    gene_penalty: Float[Array, ""]
    roughness_penalty: Float[Array, ""]
    prior: Float[Array, ""]
    outside_penalty: Float[Array, ""]


class Evaluation(NamedTuple):
    """A problem's loss at some parameters.

    Attributes
    ----------
    loss
        What is minimised: the training loss and penalties.
    training, validation
        Loss on the training and on the validation cells.
    gradient
        Gradient of ``loss``.
    """

    loss: Float[Array, ""]
    training: Float[Array, ""]
    validation: Float[Array, ""]
    gradient: Parameters


def loss_of(
    problem: Problem, parameters: Parameters, setting: DescentSetting
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
    """What is minimised, and the losses on the training and on the validation cells."""
    sets = jnp.stack([setting.training, setting.validation])
    (training, validation), outlooks = problem.losses_and_outlooks(parameters, sets)
    genes, rough = problem.parametrization.penalties(parameters)
    penalty = setting.gene_penalty * genes + setting.roughness_penalty * rough
    penalty = penalty + setting.prior * problem.parametrization.distance(parameters)
    penalty = penalty + setting.outside_penalty * problem.change_outside(outlooks).astype(penalty.dtype)
    penalty = penalty * size_of(problem.objective).astype(penalty.dtype)
    return training + penalty.astype(training.dtype), (training, validation)


@full_precision
@eqx.filter_jit
def evaluation(problem: Problem, parameters: Parameters, setting: DescentSetting) -> Evaluation:
    """Loss and gradient. Masks and factors are data: fits on other cells, with other penalties, compile nothing."""
    (loss, parts), gradient = jax.value_and_grad(lambda p: loss_of(problem, p, setting), has_aux=True)(parameters)
    training, validation = parts
    return Evaluation(loss, training, validation, gradient)
