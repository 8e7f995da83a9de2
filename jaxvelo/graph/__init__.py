"""Neighbour graphs and matrices on their edges, as padded arrays in degree buckets."""

from jaxvelo.graph._blocks import block_rows, map_rows, on_cpu
from jaxvelo.graph._buckets import next_size
from jaxvelo.graph._csr_layout import CsrLayout
from jaxvelo.graph._edge_matrix import AbstractEdgeMatrix, EdgeMatrix, TransitionMatrix
from jaxvelo.graph._fuzzy_connectivities import fuzzy_connectivities
from jaxvelo.graph._host import call_on_host
from jaxvelo.graph._moments import neighborhood_moments
from jaxvelo.graph._nearest_neighbors import nearest_neighbors
from jaxvelo.graph._neighbor_graph import NeighborGraph, graph_and_layout
from jaxvelo.graph._normalized_rows import normalize_rows, uniform
from jaxvelo.graph._pattern import Edges, Pattern
from jaxvelo.graph._precision import full_precision
from jaxvelo.graph._threads import worker_threads

__all__ = [
    "AbstractEdgeMatrix",
    "CsrLayout",
    "EdgeMatrix",
    "Edges",
    "NeighborGraph",
    "Pattern",
    "TransitionMatrix",
    "block_rows",
    "call_on_host",
    "full_precision",
    "fuzzy_connectivities",
    "graph_and_layout",
    "map_rows",
    "nearest_neighbors",
    "neighborhood_moments",
    "next_size",
    "normalize_rows",
    "on_cpu",
    "uniform",
    "worker_threads",
]
