"""Losses of objectives on a kernel, item by item and on sets of cells."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.bent_line import N_CELLS

CLOSE = {"rtol": 1e-9, "atol": 1e-11} if jax.config.jax_enable_x64 else {"rtol": 2e-4, "atol": 2e-5}
KEY = jax.random.key(0)


def losses_of(objective, kernel):
    """Cell and loss of each item."""
    losses = objective.item_losses((kernel.transitions,), kernel.features, KEY)
    return np.asarray(objective.cell), np.asarray(losses, dtype=np.float64)


def loss_of(objective, kernel, mask=None):
    mask = jnp.ones(N_CELLS) if mask is None else jnp.asarray(mask, dtype=float)
    losses = objective.on_cells(
        (kernel.transitions,) * objective.n_transition_functions, kernel.features, KEY, mask[None]
    )
    return float(losses[0])
