"""Tools on AnnData objects and kernels: velocities, times, fits of kernels, genes along a time, perturbed genes."""

from jaxvelo.annotated.stored_trends import Trends
from jaxvelo.estimators import perturb_genes
from jaxvelo.fitting import FitResult, SweepResult, fit_kernel, sweep_kernel
from jaxvelo.tl._differential_kinetic_test import differential_kinetic_test
from jaxvelo.tl._fit_trends import fit_trends
from jaxvelo.tl._latent_time import latent_time
from jaxvelo.tl._rank_dynamical_genes import rank_dynamical_genes
from jaxvelo.tl._rank_velocity_genes import rank_velocity_genes
from jaxvelo.tl._recover_dynamics import recover_dynamics
from jaxvelo.tl._terminal_states import terminal_states
from jaxvelo.tl._velocity import velocity
from jaxvelo.tl._velocity_confidence import velocity_confidence
from jaxvelo.tl._velocity_confidence_transition import velocity_confidence_transition
from jaxvelo.tl._velocity_embedding import velocity_embedding
from jaxvelo.tl._velocity_graph import velocity_graph
from jaxvelo.tl._velocity_pseudotime import velocity_pseudotime

__all__ = [
    "FitResult",
    "SweepResult",
    "Trends",
    "differential_kinetic_test",
    "fit_kernel",
    "fit_trends",
    "latent_time",
    "perturb_genes",
    "rank_dynamical_genes",
    "rank_velocity_genes",
    "recover_dynamics",
    "sweep_kernel",
    "terminal_states",
    "velocity",
    "velocity_confidence",
    "velocity_confidence_transition",
    "velocity_embedding",
    "velocity_graph",
    "velocity_pseudotime",
]
