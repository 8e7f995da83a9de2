"""Neighbour graphs and transition matrices as padded arrays in degree buckets."""

from jaxvelo.graph._blocks import BLOCK_BYTES, block_rows, map_rows, on_cpu
from jaxvelo.graph._buckets import bucket_shapes, next_size
from jaxvelo.graph._csr_layout import CsrLayout, edges_to_csr
from jaxvelo.graph._fuzzy_connectivities import fuzzy_connectivities
from jaxvelo.graph._host import call_on_host
from jaxvelo.graph._moments import neighborhood_moments
from jaxvelo.graph._nearest_neighbors import nearest_neighbors
from jaxvelo.graph._neighbor_graph import Edges, NeighborGraph
from jaxvelo.graph._precision import full_precision
from jaxvelo.graph._threads import worker_threads
from jaxvelo.graph._transition_matrix import TransitionMatrix, normalize_rows, uniform

__all__ = [
    "BLOCK_BYTES",
    "CsrLayout",
    "Edges",
    "NeighborGraph",
    "TransitionMatrix",
    "block_rows",
    "bucket_shapes",
    "call_on_host",
    "edges_to_csr",
    "full_precision",
    "fuzzy_connectivities",
    "map_rows",
    "nearest_neighbors",
    "neighborhood_moments",
    "next_size",
    "normalize_rows",
    "on_cpu",
    "uniform",
    "worker_threads",
]
