"""From counts to velocities and times: moments over neighbourhoods, models of splicing, what velocities tell of time.

Pure functions over arrays; :mod:`jaxvelo.pp` and :mod:`jaxvelo.tl` apply them to an AnnData.
"""

from jaxvelo.dynamics._agreed_time import AgreedTime, agreed_time
from jaxvelo.dynamics._coherence import transition_coherence, velocity_coherence
from jaxvelo.dynamics._dynamical_model import (
    CONVERGED,
    DynamicalFit,
    fit_dynamics,
    genes_per_batch,
    standard_deviations,
)
from jaxvelo.dynamics._gene_likelihood import gene_likelihood
from jaxvelo.dynamics._gene_models import (
    GRADUAL,
    MODELS,
    GeneModels,
    fit_gene_models,
    fit_gene_models_in_parts,
    gene_models,
    steady_slopes,
)
from jaxvelo.dynamics._group_contrast import GroupContrast, group_contrast
from jaxvelo.dynamics._group_likelihood import group_likelihoods
from jaxvelo.dynamics._kinetic_test import SIGNIFICANT, kinetic_p_values
from jaxvelo.dynamics._latent_time import latent_time, local_confidence, rooted_times, shared_time
from jaxvelo.dynamics._moments import first_moments, neighborhood_weights, second_moments
from jaxvelo.dynamics._nearest_times import nearest_times
from jaxvelo.dynamics._pseudotime import diffusion_pseudotime
from jaxvelo.dynamics._rank_correlation import rank_correlation
from jaxvelo.dynamics._rate_ratio import RateRatio, rate_ratio
from jaxvelo.dynamics._second_peak import second_peak_p_values
from jaxvelo.dynamics._shared_directions import shared_directions
from jaxvelo.dynamics._splicing import SplicingKinetics, decay_difference, splicing_solution, velocities_in_blocks
from jaxvelo.dynamics._steady_state import (
    Percentiles,
    SteadyState,
    StochasticSteadyState,
    steady_residual,
    steady_residual_of_second_moments,
    steady_state,
    stochastic_steady_state,
)
from jaxvelo.dynamics._time_alignment import align_total_time

__all__ = [
    "CONVERGED",
    "GRADUAL",
    "MODELS",
    "SIGNIFICANT",
    "AgreedTime",
    "DynamicalFit",
    "GeneModels",
    "GroupContrast",
    "Percentiles",
    "RateRatio",
    "SplicingKinetics",
    "SteadyState",
    "StochasticSteadyState",
    "agreed_time",
    "align_total_time",
    "decay_difference",
    "diffusion_pseudotime",
    "first_moments",
    "fit_dynamics",
    "fit_gene_models",
    "fit_gene_models_in_parts",
    "gene_likelihood",
    "gene_models",
    "genes_per_batch",
    "group_contrast",
    "group_likelihoods",
    "kinetic_p_values",
    "latent_time",
    "local_confidence",
    "nearest_times",
    "neighborhood_weights",
    "rank_correlation",
    "rate_ratio",
    "rooted_times",
    "second_moments",
    "second_peak_p_values",
    "shared_directions",
    "shared_time",
    "splicing_solution",
    "standard_deviations",
    "steady_residual",
    "steady_residual_of_second_moments",
    "steady_slopes",
    "steady_state",
    "stochastic_steady_state",
    "transition_coherence",
    "velocities_in_blocks",
    "velocity_coherence",
]
