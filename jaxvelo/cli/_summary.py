"""``summary.md``: what a run did, with which parameters, what to look at and what to doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxvelo.cli._account import Account
from jaxvelo.cli._doubtful_results import doubtful_results
from jaxvelo.cli._fates import N_GENES_SHOWN, mean_fates, top_drivers
from jaxvelo.cli._h5ad_files import KERNEL
from jaxvelo.cli._markdown import bullets, escaped, picture, table
from jaxvelo.cli._methods_section import methods
from jaxvelo.cli._references import Citations
from jaxvelo.cli._trends import TABLE, report_lines
from jaxvelo.cli._used_parameters import used_parameters, versions
from jaxvelo.cli._workflow import net_flow

# What each picture shows, and what to look for in it, by the beginning of its name, in the order of the text.
PICTURES = {
    "overview": "Where cells are heading, and the fates that they lead to.",
    "stream": "Mean direction of the cells, as stream lines. Do they leave the cells that you know to be early, and go "
    "to those that you know to be late? Two dimensions hide much: trust fates more than lines.",
    "grid": "The same as arrows: short ones where cells go in different directions, or stay.",
    "random_walks": "Random walks on the transition matrix, from black to yellow dots. Where do they gather?",
    "proportions": "Shares of spliced and unspliced counts. Clusters that differ much from the others have other "
    "velocities for that reason alone.",
    "phase_portraits": "Unspliced and spliced counts of the genes that fit best, with their curves. Cells should lie "
    "along the curve, and clusters follow each other on it.",
    "latent_time": "The time that all genes share. Does it grow from early to late cells?",
    "macrostates": "Sets of cells that the process leaves rarely.",
    "coarse_T": "Probabilities to go from one macrostate to another, and to stay (on the diagonal).",
    "fate_probabilities": "Probability of each cell to end in each terminal state. Do fates part where you expect it?",
    "drivers": "Expression of the genes that go most with a fate. Are known genes among them?",
    "gene_trends": "Genes along the time, towards each fate, with bands of 95 %.",
    "heat_map": "The leading genes of the fates, in the order in which they are highest.",
}


def summary(account: Account, pictures: list[Path]) -> str:
    """Write the summary, as Markdown.

    Parameters
    ----------
    account
        What was done.
    pictures
        Files that were drawn, in the folder of the summary.
    """
    cite = Citations()
    paragraph = methods(account, cite)  # first, as references follow from it
    references = [
        f"{number}. {escaped(text)}" + (f" [doi:{doi}](https://doi.org/{doi})" if doi else "")
        for number, (text, doi) in enumerate(cite.references(), start=1)
    ]
    parts = [
        f"# {escaped(account.source)}",
        _what_was_done(account),
        "## What was found",
        _findings(account),
        "## What to look at",
        *_pictures(pictures),
        "## What to doubt",
        _doubts(account),
        "## For the methods section",
        f"{paragraph}",
        "\n".join(references),
        "## Parameters",
        "As they were used, those that were derived from the data included.",
        table(("step", "parameter", "value"), used_parameters(account)),
        "## Versions",
        table(("program", "version"), versions(account)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_was_done(account: Account) -> str:
    plan = account.plan
    steps = [
        (plan.counts, "Genes with few counts were left out"),
        (account.normalized, "Counts were brought to the same size in all cells"),
        (plan.neighbors, "Neighbours were computed"),
        (plan.moments, "Counts were averaged over neighbours"),
        (plan.velocities, f"Velocities were computed by the {account.mode} model"),
        (plan.time is None and not plan.velocities, "Velocities of the file were used as they are"),
        (plan.time is not None, f"Cells went along a time, `{account.time_key}`, in place of velocities"),
        (True, "A transition matrix between cells was computed, and random walks on it"),
        (account.estimator is not None, "Macrostates, terminal states and fates of the cells were looked for"),
        (account.trends is not None, "Genes were fitted along the time"),
    ]
    done = [text for is_done, text in steps if is_done]
    return f"{bullets([f'{text}.' for text in done])}\n\nAll results are in `{KERNEL}` beside this file."


def _findings(account: Account) -> str:
    estimator, adata = account.estimator, account.adata
    items = [f"{adata.n_obs} cells, {adata.n_vars} genes."]
    if account.cluster_key is not None:
        flow = net_flow(account.kernel, account.cluster_key)
        if flow:
            shown = "; ".join(f"{escaped(a)} → {escaped(b)} {x:.1f}" for a, b, x in flow)
            items.append(f"Net flow between clusters, in cells per step: {shown}.")
    if estimator is None:
        return bullets(items)
    if estimator.macrostates is not None and estimator.eigendecomposition is not None:
        names = [str(name) for name in estimator.macrostates.cat.categories]
        values = np.real(estimator.eigendecomposition["D"])[: len(names) + 3]
        items.append(
            f"{len(names)} macrostates: {escaped(', '.join(names))}. First eigenvalues: "
            f"{', '.join(f'{value:.3f}' for value in values)}."
        )
    if estimator.terminal_states is not None:
        ends = "Initial" if account.options.backward else "Terminal"
        counts = estimator.terminal_states.value_counts(sort=False)
        shown = ", ".join(f"{name} ({count} cells)" for name, count in counts.items())
        items.append(f"{ends} states: {escaped(shown)}.")
    for lineage, genes in top_drivers(estimator, N_GENES_SHOWN).items():
        shown = ", ".join(f"{gene} {correlation:.2f}" for gene, correlation in genes)
        items.append(f"Genes that go most with {escaped(lineage)}, by their correlation: {escaped(shown)}.")
    if account.trends is not None:
        items += [f"{escaped(line)} (`{TABLE}`)." for line in report_lines(account.trends, estimator)]
    found = mean_fates(estimator, account.cluster_key)
    if found is None:
        return bullets(items)
    names, rows = found
    fates = table(("cells", *names), [(label, *(f"{value:.2f}" for value in means)) for label, means in rows])
    return f"{bullets(items)}\n\nMean fate probabilities:\n\n{fates}"


def _pictures(drawn: list[Path]) -> list[str]:
    parts = []
    for beginning, text in PICTURES.items():
        files = [path for path in drawn if path.stem == beginning or path.stem.startswith(f"{beginning}_")]
        if files:
            parts.append(text)
            parts += [picture(path.name, path.stem.replace("_", " ")) for path in files]
    return parts or ["No picture was drawn."]


def _doubts(account: Account) -> str:
    parts = []
    if account.warnings:
        parts.append("The run warned:")
        parts.append(bullets([escaped(text) for text in account.warnings]))
        parts.append("And the results themselves say:")
    doubts = doubtful_results(account)
    parts.append(
        bullets([escaped(text) for text in doubts]) if doubts else "Nothing was found that speaks against them."
    )
    return "\n\n".join(parts)
