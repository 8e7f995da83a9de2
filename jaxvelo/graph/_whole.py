"""Whole arrays, of which several devices, or several processes, have parts."""

from typing import TypeVar

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")


def on_each_device(arrays: Tree, mesh: Mesh | None) -> Tree:
    """Give each device of a mesh all of some arrays; as they are if there is no mesh.

    What belongs to the cells is whole on each device, what belongs to the rows of a graph is parted.
    """
    if mesh is None:
        return arrays
    return jax.lax.with_sharding_constraint(arrays, NamedSharding(mesh, PartitionSpec()))


def on_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """An array on the host; where processes have parts of it, all of them must ask for it, and each gets the whole."""
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        return process_allgather(array, tiled=True)
    return np.asarray(array)
