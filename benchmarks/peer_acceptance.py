"""What CellRank and scVelo make of a file of ours, as JSON on standard output; runs in the peers' environment.

Usage: ``peer_acceptance.py FILE.h5ad``

A call is accepted if it does not fail, and the numbers that it returns are finite. Where the file has our result of the
same call, the largest absolute difference is given as well.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import cellrank_on_numpy2  # noqa: F401  (before cellrank)

# isort: split
import anndata
import cellrank
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
import scvelo

matplotlib.use("Agg")
cellrank.settings.verbosity = 0
scvelo.settings.verbosity = 0
QUIET = {"show_progress_bar": False}
CLUSTERS, START, FATES, BASIS = "clusters", "Ngn3 low EP", ("Alpha", "Beta"), "umap"

# Name of a call, the call, and our result if there is one.
Call = tuple[str, Callable[[], Any], Any]


def main(file: str) -> dict[str, Any]:
    """Try the calls of both, one after the other: later ones go on from what earlier ones leave."""
    warnings.simplefilter("ignore")
    adata = anndata.read_h5ad(file)
    result = {}
    for peer, calls in ((cellrank, cellrank_calls(adata.copy())), (scvelo, scvelo_calls(adata.copy()))):
        outcomes = {name: attempt(function, ours) for name, function, ours in calls}
        result[peer.__name__] = {"version": peer.__version__, "calls": outcomes}
    return result


def attempt(function: Callable[[], Any], ours: Any) -> dict[str, Any]:
    """Say whether a call works, and how far its result is from ours."""
    try:
        theirs = function()
    except ModuleNotFoundError as error:  # that says nothing about the file
        return {"untried": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        plt.close("all")
    for result, whose in ((theirs, "the result"), (ours, "our result")):
        numbers = result.data if sp.issparse(result) else result
        if isinstance(numbers, np.ndarray) and not np.isfinite(numbers).all():
            return {"error": f"{whose} is not finite"}
    return {} if ours is None else {"difference": float(np.abs(theirs - ours).max())}


def cellrank_calls(adata: anndata.AnnData) -> Iterator[Call]:
    """Kernels from our velocities and times, and what comes after kernels."""
    made: dict[str, Any] = {}

    def velocity(backward: bool) -> sp.csr_matrix:
        kernel = cellrank.kernels.VelocityKernel(adata, backward=backward).compute_transition_matrix(**QUIET)
        made["backward" if backward else "forward"] = kernel
        return kernel.transition_matrix

    def combined() -> sp.csr_matrix:
        connectivity = cellrank.kernels.ConnectivityKernel(adata).compute_transition_matrix()
        made["combined"] = (0.8 * made["forward"] + 0.2 * connectivity).compute_transition_matrix()
        return made["combined"].transition_matrix

    def pseudotime(key: str) -> sp.csr_matrix:
        kernel = cellrank.kernels.PseudotimeKernel(adata, time_key=key)
        return kernel.compute_transition_matrix(**QUIET).transition_matrix

    def walks() -> None:
        start = {CLUSTERS: START}
        made["combined"].plot_random_walks(n_sims=20, start_ixs=start, max_iter=200, seed=0, basis=BASIS, **QUIET)

    def fates() -> np.ndarray:
        # Terminal states by hand: macrostates take minutes where SLEPc is not installed.
        time, cluster = adata.obs["latent_time"], adata.obs[CLUSTERS]
        latest = {fate: list(time[cluster == fate].nlargest(30).index) for fate in FATES}
        made["gpcca"] = cellrank.estimators.GPCCA(made["combined"]).set_terminal_states(latest)
        made["gpcca"].compute_fate_probabilities(solver="direct", use_petsc=False, **QUIET)
        return np.asarray(made["gpcca"].fate_probabilities)

    def trends(key: str) -> None:
        model = cellrank.models.GAM(adata)
        cellrank.pl.gene_trends(adata, model, best(adata, 2), time_key=key, data_key="Ms", n_jobs=1, **QUIET)

    kernels = cellrank.kernels
    yield "`VelocityKernel`", lambda: velocity(backward=False), adata.obsp["T_fwd"]
    yield "`VelocityKernel` backward", lambda: velocity(backward=True), adata.obsp["T_bwd"]
    yield "0.8/0.2 with `ConnectivityKernel`", combined, adata.obsp["combined"]
    yield "`VelocityKernel.from_adata`", lambda: kernels.VelocityKernel.from_adata(adata, "T_fwd"), None
    yield "`PrecomputedKernel.from_adata`", lambda: kernels.PrecomputedKernel.from_adata(adata, "combined"), None
    yield "`PseudotimeKernel` of `latent_time`", lambda: pseudotime("latent_time"), None
    yield "`PseudotimeKernel` of `velocity_pseudotime`", lambda: pseudotime("velocity_pseudotime"), None
    yield "`plot_projection`", lambda: made["combined"].plot_projection(basis=BASIS), None
    yield "`plot_random_walks`", walks, None
    yield "fate probabilities of `GPCCA`", fates, None
    yield "`gene_trends` over `latent_time`", lambda: trends("latent_time"), None


def scvelo_calls(adata: anndata.AnnData) -> Iterator[Call]:
    """Functions and plots that need the dynamical model, its velocities, or what comes after them."""
    tools, plots = scvelo.tl, scvelo.pl
    ours, genes = adata.copy(), best(adata, 2)

    def graph() -> sp.csr_matrix:
        tools.velocity_graph(adata, **QUIET)
        return correlations(adata)

    def column(function: Callable[[anndata.AnnData], Any], key: str, ours_as: str | None = None) -> Call:
        def call() -> np.ndarray:
            function(adata)
            return adata.obs[key].to_numpy()

        return f"`{function.__name__}`", call, ours.obs[ours_as or key].to_numpy()

    yield "`velocity_graph`", graph, correlations(ours)
    yield column(tools.velocity_confidence, "velocity_confidence")
    # Before latent_time, which writes a pseudotime from another root.
    yield column(tools.velocity_pseudotime, "velocity_pseudotime", "velocity_pseudotime_as_scvelo")
    yield column(tools.latent_time, "latent_time", "latent_time_as_scvelo")
    # On a copy what changes the fit, or root cells.
    others = {
        "terminal_states": lambda: tools.terminal_states(adata.copy()),
        'velocity(mode="dynamical")': lambda: tools.velocity(adata.copy(), mode="dynamical"),
        "recover_dynamics": lambda: tools.recover_dynamics(adata.copy(), var_names=genes, n_jobs=1, **QUIET),
        "differential_kinetic_test": lambda: tools.differential_kinetic_test(adata.copy(), genes, groupby=CLUSTERS),
        "rank_dynamical_genes": lambda: tools.rank_dynamical_genes(adata, groupby=CLUSTERS),
        "rank_velocity_genes": lambda: tools.rank_velocity_genes(adata, groupby=CLUSTERS),
        "paga": lambda: tools.paga(adata, groups=CLUSTERS),
        "pl.scatter": lambda: plots.scatter(adata, basis=genes, color=CLUSTERS, show=False),
        "pl.heatmap": lambda: plots.heatmap(adata, var_names=best(adata, 50), sortby="latent_time", show=False),
        "pl.velocity": lambda: plots.velocity(adata, genes, show=False),
        "pl.velocity_graph": lambda: plots.velocity_graph(adata, show=False),
        "pl.velocity_embedding_stream": lambda: plots.velocity_embedding_stream(adata, basis=BASIS, show=False),
    }
    for name, function in others.items():
        yield f"`{name}`", function, None


def correlations(adata: anndata.AnnData) -> sp.csr_matrix:
    """Both halves of the velocity graph."""
    return adata.uns["velocity_graph"] + adata.uns["velocity_graph_neg"]


def best(adata: anndata.AnnData, n_genes: int) -> list[str]:
    """Velocity genes with the largest likelihoods."""
    return list(adata.var["fit_likelihood"][adata.var["velocity_genes"]].nlargest(n_genes).index)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
