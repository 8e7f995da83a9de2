"""Pictures, drawn with matplotlib from what is stored in an AnnData object; drawing never changes the object.

The names are loaded when first used: kernels and fits, which can draw themselves, are imported without them.
"""

import lazy_loader

from jaxvelo.annotated.count_proportions import count_proportions
from jaxvelo.markov import cluster_proportions, compute_flow

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "_aggregated_fates": ["aggregate_fate_probabilities"],
        "_circular_projection": ["circular_projection"],
        "_cluster_trends": ["cluster_trends"],
        "_coarse_matrix": ["coarse_T"],
        "_composition": ["macrostate_composition"],
        "_driver_correlations": ["lineage_drivers_correlation"],
        "_driver_genes": ["lineage_drivers"],
        "_eigenvalues": ["spectrum"],
        "_fate_probabilities": ["fate_probabilities"],
        "_fit": ["fit", "sweep"],
        "_fit_fates": ["fit_fates"],
        "_flow": ["single_flow"],
        "_gene_trends": ["gene_trends"],
        "_grid": ["projection_cells", "projection_grid", "smooth_on_grid"],
        "_log_odds": ["log_odds"],
        "_macrostates": ["macrostates"],
        "_perturbed_fates": ["perturbed_fates"],
        "_phase_portrait": ["phase_portrait"],
        "_proportions": ["proportions"],
        "_reliability": ["reliability"],
        "_scatter": ["scatter"],
        "_schur_matrix": ["schur_matrix"],
        "_stream": ["projection_stream"],
        "_trend_heat_map": ["heatmap"],
        "_tsi": ["tsi"],
        "_velocity_embedding": ["velocity_embedding", "velocity_embedding_grid", "velocity_embedding_stream"],
        "_walks": ["random_walks"],
    },
)
# Computed elsewhere, and known under these names too.
__all__ += [name.__name__ for name in (cluster_proportions, compute_flow, count_proportions)]
