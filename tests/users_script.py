"""A user's script that goes from counts to fates, by AnnData and by arrays; test_types.py has its types checked."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

import jaxvelo as jv
from jaxvelo.dynamics import SplicingKinetics
from jaxvelo.estimators import GPCCA, fate_gradient, fate_uncertainty
from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.kernels import CytoTRACEKernel, PrecomputedKernel, PseudotimeKernel, RealTimeKernel
from jaxvelo.markov import absorption_probabilities, coarse_grain, schur, stationary_distribution
from jaxvelo.transitions import Connectivity, TransitionFunction, Velocity


def from_counts_to_fates(path: Path) -> GPCCA:
    """Go from the counts of a file to fates, their genes and their pictures."""
    jv.settings.verbosity = "warning"
    jv.logging.print_versions()
    adata = jv.read(path)
    jv.pp.filter_and_normalize(adata, min_shared_counts=20, n_top_genes=2000, subset_highly_variable=False)
    jv.pp.neighbors(adata, n_neighbors=30, n_pcs=30)
    jv.pp.moments(adata)
    jv.tl.recover_dynamics(adata)
    jv.tl.velocity(adata, mode="dynamical")
    jv.tl.latent_time(adata)
    jv.tl.velocity_pseudotime(adata)
    jv.pl.velocity_embedding_stream(adata, basis="umap", color="clusters", save="stream.png")
    velocity = jv.kernels.VelocityKernel(adata).compute_transition_matrix(model="stochastic", softmax_scale=4.0)
    connectivity = jv.kernels.ConnectivityKernel(adata).compute_transition_matrix()
    kernel = 0.8 * velocity + 0.2 * connectivity
    kernel.plot_projection(basis="umap", color="clusters")
    kernel.plot_random_walks(start_ixs={"clusters": "Progenitor"}, n_sims=100, seed=0)
    matrix: sp.csr_matrix = kernel.transition_matrix
    assert matrix.shape == (adata.n_obs, adata.n_obs)
    known = jv.objectives.TimeGain(adata, "latent_time")
    result = jv.tl.fit_kernel(kernel, known, train=("scale", "weights"), seed=0)
    jv.tl.sweep_kernel(kernel, known).plot()
    result.write_to_adata("T_fitted")

    gpcca = GPCCA(result.kernel)
    gpcca.compute_macrostates(n_states=4, cluster_key="clusters")
    gpcca.predict_terminal_states()
    gpcca.compute_fate_probabilities()
    gpcca.compute_lineage_drivers()
    gpcca.plot_fate_probabilities(same_plot=False)
    assert gpcca.terminal_states is not None
    codes, names = gpcca.terminal_states.cat.codes.to_numpy(), list(gpcca.terminal_states.cat.categories)
    scores: np.ndarray = fate_gradient(kernel, codes, names).score
    lower = fate_uncertainty(kernel, codes, names, seed=0).lower
    assert scores.shape[1] == lower.shape[1]
    trends = jv.tl.fit_trends(adata, time_key="latent_time")
    trends.to_frame().to_csv("trends.csv")
    jv.pl.gene_trends(adata, ["Ins2", "Gcg"], ncols=2)
    jv.tl.perturb_genes(gpcca, genes=["Ins2"], cluster_key="clusters")
    return gpcca


def other_kernels(path: Path) -> list[jv.kernels.Kernel]:
    """Make kernels without velocities."""
    adata = jv.read(path, backed=True)
    return [
        PseudotimeKernel(adata, time_key="dpt_pseudotime").compute_transition_matrix(),
        CytoTRACEKernel(adata).compute_cytotrace().compute_transition_matrix(),
        RealTimeKernel(adata, time_key="day").compute_couplings().compute_transition_matrix(),
        PrecomputedKernel("T_fwd", adata=adata),
    ]


def loss(function: TransitionFunction, graph: NeighborGraph, x: jax.Array, v: jax.Array) -> jax.Array:
    """Give what a user of arrays would minimise."""
    transitions: TransitionMatrix = function(graph, x, v)
    return -jnp.mean(jnp.log(transitions @ jnp.ones(x.shape[0])))


def arrays_alone() -> None:
    """Differentiate transitions, and read fates from them."""
    graph = NeighborGraph.from_csr(sp.csr_matrix(sp.random(1000, 1000, density=0.03, random_state=0)))
    x, v = jax.random.normal(jax.random.key(0), (2, 1000, 50))
    function = 0.8 * Velocity(softmax_scale=4.0) + 0.2 * Connectivity()
    value, gradient = eqx.filter_value_and_grad(loss)(function, graph, x, v)
    print(float(value), gradient.weights)
    transitions = function(graph, x, v).to_csr()
    print(coarse_grain(schur(transitions, 5), 3), stationary_distribution(transitions))
    terminal = np.full(1000, -1)
    terminal[:2] = 0, 1
    print(absorption_probabilities(transitions, terminal, n_fates=2))
    rate = jnp.ones(50)
    kinetics = SplicingKinetics(alpha=5 * rate, beta=rate, gamma=0.3 * rate, switching_time=4 * rate, scaling=rate)
    print(kinetics.velocities(jnp.abs(x))[0].shape)


if __name__ == "__main__":
    from_counts_to_fates(Path("cells.h5ad"))
    other_kernels(Path("cells.h5ad"))
    arrays_alone()
