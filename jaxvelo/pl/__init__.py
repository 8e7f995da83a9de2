"""Pictures, drawn with matplotlib from what is stored in an AnnData object; drawing never changes the object."""

from jaxvelo.annotated.count_proportions import count_proportions
from jaxvelo.markov import cluster_proportions, compute_flow

from ._fit import fit, sweep
from ._flow import single_flow
from ._grid import projection_cells, projection_grid, smooth_on_grid
from ._phase_portrait import phase_portrait
from ._proportions import proportions
from ._scatter import scatter
from ._stream import projection_stream
from ._velocity_embedding import velocity_embedding, velocity_embedding_grid, velocity_embedding_stream
from ._walks import random_walks

__all__ = [
    "cluster_proportions",
    "compute_flow",
    "count_proportions",
    "fit",
    "phase_portrait",
    "projection_cells",
    "projection_grid",
    "projection_stream",
    "proportions",
    "random_walks",
    "scatter",
    "single_flow",
    "smooth_on_grid",
    "sweep",
    "velocity_embedding",
    "velocity_embedding_grid",
    "velocity_embedding_stream",
]
