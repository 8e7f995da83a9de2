"""Preprocessing of an AnnData with spliced and unspliced counts, under scVelo's names."""

from jaxvelo.pp._filter_and_normalize import filter_and_normalize, filter_genes
from jaxvelo.pp._merge import merge
from jaxvelo.pp._moments import moments
from jaxvelo.pp._neighbors import neighbors

__all__ = ["filter_and_normalize", "filter_genes", "merge", "moments", "neighbors"]
