"""What was done, as a paragraph for the methods of a paper: of what ran alone, with its numbers and its papers."""

from __future__ import annotations

from importlib.metadata import version

import jaxvelo
from jaxvelo.cli import _workflow as workflow
from jaxvelo.cli._account import Account
from jaxvelo.cli._markdown import escaped
from jaxvelo.cli._plan_along_time import CYTOTRACE, DAYS
from jaxvelo.cli._references import Citations

SIMILARITIES = {"correlation": "Pearson correlation", "cosine": "cosine similarity", "dot_product": "dot product"}
CRITERIA = {
    "retention": "those that keep most of the walks that start in them and that walks from other cells come to",
}


def methods(account: Account, cite: Citations) -> str:
    """Write the paragraph, and note what it cites."""
    sentences = [
        _program(cite),
        *_counts(account, cite),
        *_neighbors(account, cite),
        *_velocities(account, cite),
        *_transitions(account, cite),
        *_drawing(account, cite),
        *_fates(account, cite),
        *_trends(account, cite),
    ]
    return " ".join(sentences)


def _program(cite: Citations) -> str:
    return (
        f"Cells were analysed with jaxvelo {jaxvelo.__version__} (JAX {version('jax')}, anndata {version('anndata')} "
        f"{cite('virshup')})."
    )


def _counts(account: Account, cite: Citations) -> list[str]:
    plan, options, adata = account.plan, account.options, account.adata
    if not plan.prepares_counts:
        return []
    said = []
    if plan.time is None:
        least = workflow.MIN_SHARED_COUNTS if options.min_shared_counts is None else options.min_shared_counts
        said.append(
            f"Of {account.shape[1]} genes, the {adata.n_vars} with at least {least} counts in cells with both spliced "
            "and unspliced counts of them were kept."
        )
    if account.normalized:
        said.append("Counts were scaled to the median number of counts of a cell, and log-transformed in X.")
    if plan.n_top_genes is not None and plan.n_top_genes < adata.n_vars:
        n_genes = int(adata.var["highly_variable"].sum())
        said.append(
            f"The {n_genes} most variable genes were chosen by their dispersion, compared with genes of a similar mean "
            f"{cite('satija')}."
        )
    return said


def _neighbors(account: Account, cite: Citations) -> list[str]:
    plan, adata = account.plan, account.adata
    said = []
    if plan.neighbors:
        params = adata.uns[plan.graph.key]["params"]
        cells = "X" if params.get("use_rep") == "X" else f"`{params.get('use_rep')}`"
        if params.get("use_rep") == "X_pca":
            cells = f"{params.get('n_pcs') or adata.obsm['X_pca'].shape[1]} principal components"
        said.append(
            f"The {params['n_neighbors']} nearest neighbours of each cell in {cells} made a graph, weighted as by UMAP "
            f"{cite('mcinnes')}."
        )
    if plan.moments:
        said.append(
            "Spliced and unspliced counts were averaged over the neighbours of each cell (moments) "
            f"{cite('la_manno', 'bergen')}."
        )
    return said


def _velocities(account: Account, cite: Citations) -> list[str]:
    plan, options, adata = account.plan, account.options, account.adata
    if plan.time is not None:
        return []
    if account.mode is None:
        return [
            f"RNA velocities {cite('la_manno')} were those in the layer `{options.vkey}` of the file (say here by "
            "which method they were estimated)."
        ]
    said = []
    if account.mode == "dynamical":
        n_fitted = int(adata.var["fit_alpha"].notna().sum())
        fitted = f"was fitted to {n_fitted} genes" if plan.fit else f"had been fitted to {n_fitted} genes before"
        said.append(
            f"The dynamical model of splicing {cite('bergen')} {fitted}; the velocity of a gene is the mean over four "
            "models of its transcription, weighted by their evidence (jaxvelo's own fit)."
            if "fit_velocity" in adata.layers
            else f"The dynamical model of splicing {cite('bergen')} {fitted}."
        )
    elif account.mode == "stochastic":
        said.append(f"RNA velocities were estimated by the stochastic steady-state model {cite('bergen')}.")
    else:
        said.append(f"RNA velocities were estimated by the steady-state model {cite('la_manno', 'bergen')}.")
    if "velocity_genes" in adata.var:
        said[-1] += f" {int(adata.var['velocity_genes'].sum())} velocity genes were used."
    if account.mode == "dynamical" and plan.latent_time and "latent_time" in adata.obs:
        said.append(f"A latent time that all genes share was computed from root cells {cite('bergen')}.")
    return said


def _transitions(account: Account, cite: Citations) -> list[str]:
    plan, options = account.plan, account.options
    params = account.kernel.kernels[0].params
    if plan.time is None:
        automatic = "" if options.softmax_scale is not None else ", one over the median similarity"
        text = (
            f"Transition probabilities between neighbouring cells are the softmax of the "
            f"{SIMILARITIES[options.similarity]} of a cell's velocity and its displacement to a neighbour "
            f"{cite('bergen', 'lange')}, with the scale {params['softmax_scale']:.3g}{automatic}"
        )
        if options.model != "deterministic":
            how = "to second order" if options.model == "stochastic" else "by sampling"
            text += f"; the uncertainty of the velocities was propagated {how} {cite('lange')}"
    elif plan.time == DAYS:
        text = (
            f"Cells of the time points `{options.time_key}` were coupled to those of the next one by optimal transport "
            f"with an entropic penalty {cite('cuturi', 'chizat', 'schiebinger')}, solved with ott-jax "
            f"{version('ott-jax')} {cite('ott')}, and the couplings were joined to one transition matrix "
            f"{cite('weiler')}"
        )
    else:
        scheme, paper = ("soft", "stassen") if plan.time == CYTOTRACE else ("hard", "setty")
        time = f"the pseudotime `{options.time_key}`"
        if plan.time == CYTOTRACE:
            time = f"the pseudotime of CytoTRACE, by the number of genes that cells express {cite('gulati')}"
        text = (
            f"Transition probabilities between neighbouring cells follow {time}, with the {scheme} threshold for edges "
            f"that lead back {cite(paper, 'lange', 'weiler')}"
        )
    if options.weight < 1:
        rest = f"{round(1 - options.weight, 9):g}"
        among = " within a time point" if plan.time == DAYS else ""
        text += (
            f". They were combined, with weights {options.weight:g} and {rest}, with transition probabilities by the "
            f"similarity of cells{among} {cite('lange')}"
        )
    if options.backward:
        text += ". The process was run back in time"
    return [
        f"{text}.",
        f"{workflow.N_WALKS} random walks of {workflow.N_STEPS} steps were simulated on the transition matrix.",
    ]


def _drawing(account: Account, cite: Citations) -> list[str]:
    said = f"Mean displacements were projected onto the embedding `{account.basis}` {cite('la_manno', 'bergen')}"
    if account.plan.umap and account.basis == "umap":
        said += f", a UMAP {cite('mcinnes')} by scanpy {version('scanpy')} {cite('wolf')}"
    return [f"{said}."]


def _fates(account: Account, cite: Citations) -> list[str]:
    estimator = account.estimator
    if estimator is None or estimator.macrostates is None:
        return []
    params = estimator.params
    given = "as asked for" if account.options.n_states is not None else "as many as eigenvalues before the eigengap"
    n_states = len(estimator.macrostates.cat.categories)
    said = [
        "By generalised Perron cluster cluster analysis "
        f"{cite('reuter_2018', 'reuter_2019', 'roeblitz')}, {n_states} macrostates were found ({given})."
    ]
    if estimator.terminal_states is not None:
        ends = "initial" if account.options.backward else "terminal"
        method = str(params["terminal_states"].get("method"))
        how = CRITERIA.get(method, f"by the criterion `{method}`")
        names = list(map(str, estimator.terminal_states.cat.categories))
        several = escaped(" and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names))
        said.append(f"Of these, {several} {'were' if len(names) > 1 else 'was'} taken as {ends}: {how}.")
    if estimator.fate_probabilities is not None:
        tolerance = params["fate_probabilities"]["tol"]
        said.append(
            f"Fate probabilities are the probabilities of absorption in these states {cite('lange')}, solved to an "
            f"error of at most {tolerance:.0e}."
        )
    if estimator.lineage_drivers is not None:
        layer = params["lineage_drivers"].get("layer")
        where = "X" if layer is None else f"`{layer}`"
        said.append(
            f"Genes that go with a fate were ranked by the correlation of their expression, {where}, with its "
            f"probabilities {cite('lange')}."
        )
    return said


def _trends(account: Account, cite: Citations) -> list[str]:
    if account.trends is None:
        return []
    text = (
        f"Expression of {len(account.trends.genes)} genes along the time `{account.time_key}` was fitted by penalised "
        f"cubic splines {cite('eilers')}, with a smoothness chosen by restricted maximum likelihood {cite('wood')}"
    )
    if account.estimator is not None and account.estimator.fate_probabilities is not None:
        text += f"; towards each fate, with its probabilities as weights of the cells {cite('lange')}"
    return [f"{text}."]
