"""Neighbour graphs and matrices on their edges, as padded arrays in degree buckets."""

from jaxvelo.graph._blocks import map_rows
from jaxvelo.graph._cluster_connectivities import cluster_connectivities
from jaxvelo.graph._edge_matrix import AbstractEdgeMatrix, EdgeMatrix, TransitionMatrix
from jaxvelo.graph._fuzzy_connectivities import fuzzy_connectivities
from jaxvelo.graph._halo import Halo
from jaxvelo.graph._moments import neighborhood_moments
from jaxvelo.graph._nearest_neighbors import nearest_neighbors
from jaxvelo.graph._neighbor_graph import NeighborGraph
from jaxvelo.graph._pattern import Edges, Pattern

__all__ = [
    "AbstractEdgeMatrix",
    "EdgeMatrix",
    "Edges",
    "Halo",
    "NeighborGraph",
    "Pattern",
    "TransitionMatrix",
    "cluster_connectivities",
    "fuzzy_connectivities",
    "map_rows",
    "nearest_neighbors",
    "neighborhood_moments",
]
