"""Neighbour graphs and matrices on their edges, as padded arrays in degree buckets."""

from jaxvelo.graph._blocks import map_rows
from jaxvelo.graph._edge_matrix import AbstractEdgeMatrix, EdgeMatrix, TransitionMatrix
from jaxvelo.graph._fuzzy_connectivities import fuzzy_connectivities
from jaxvelo.graph._moments import neighborhood_moments
from jaxvelo.graph._nearest_neighbors import nearest_neighbors
from jaxvelo.graph._neighbor_graph import NeighborGraph
from jaxvelo.graph._pattern import Edges, Pattern
from jaxvelo.graph._row_blocks import BudgetTooSmall, LocalGraphs, RowBlock, near_order, read_ahead, row_blocks

__all__ = [
    "AbstractEdgeMatrix",
    "BudgetTooSmall",
    "EdgeMatrix",
    "Edges",
    "LocalGraphs",
    "NeighborGraph",
    "Pattern",
    "RowBlock",
    "TransitionMatrix",
    "fuzzy_connectivities",
    "map_rows",
    "near_order",
    "nearest_neighbors",
    "neighborhood_moments",
    "read_ahead",
    "row_blocks",
]
