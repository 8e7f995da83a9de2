"""The pictures, each drawn for itself: one that fails is a warning, and the others are drawn."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo import pl
from jaxvelo.annotated.embeddings import read_embedding
from jaxvelo.annotated.stored_trends import Trends
from jaxvelo.annotated.whole_files import written_whole
from jaxvelo.cli._errors import reason
from jaxvelo.cli._trends import leading_genes
from jaxvelo.configuration import logger, timed
from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import KernelExpression

if TYPE_CHECKING:
    from anndata import AnnData

N_PORTRAITS = 8
N_WALKS_DRAWN = 100
N_DRIVERS, MOST_LINEAGES = 4, 6
# Curves of each fate; rows of a heat map of each fate, and of all.
N_CURVES, MOST_OF_FATE, MOST_ROWS = 3, 20, 60

Picture = tuple[str, Callable[..., object]]


def draw(pictures: list[Picture], out: Path, written: list[Path]) -> None:
    """Draw each picture into a file of its name, and add the files that were written to a list."""
    import matplotlib.pyplot as plt

    for name, plot in pictures:
        path = out / f"{name}.png"
        try:
            with timed(f"Drawing `{path}`"):
                plot(save=path)
        except Exception as error:  # what was computed has been written by now
            logger.warning("Could not draw `%s`: %s", path, reason(error))
            logger.debug("This is where it happened:", exc_info=error)
            plt.close("all")
            continue
        written.append(path)


def of_kernel(
    kernel: KernelExpression, key: str, walks: np.ndarray, basis: str, cluster_key: str | None
) -> Iterator[Picture]:
    """Pictures of the arrows, the walks and the proportions of the counts."""
    adata = kernel.adata
    color = "grey" if cluster_key is None else cluster_key
    looks: dict[str, Any] = {"basis": basis, "color": color}
    # In three dimensions there are no stream lines.
    if read_embedding(adata, basis).shape[1] != 3:
        yield "stream", functools.partial(pl.projection_stream, adata, vkey=key, **looks)
    yield "grid", functools.partial(pl.projection_grid, adata, vkey=key, **looks)
    yield "random_walks", functools.partial(pl.random_walks, adata, list(walks[:N_WALKS_DRAWN]), **looks)
    if cluster_key is not None and {"spliced", "unspliced"} <= set(adata.layers):
        yield "proportions", functools.partial(pl.proportions, adata, cluster_key)


def of_dynamics(adata: AnnData, basis: str, cluster_key: str | None) -> Iterator[Picture]:
    """Phase portraits of the genes that fit best, and the latent time if there is one."""
    likelihood = adata.var["fit_likelihood"].where(adata.var["velocity_genes"])
    genes = list(likelihood.nlargest(N_PORTRAITS).index)
    color = "grey" if cluster_key is None else cluster_key
    yield "phase_portraits", functools.partial(pl.phase_portrait, adata, genes, color)
    if "latent_time" in adata.obs:
        yield (
            "latent_time",
            functools.partial(pl.scatter, adata, basis, color="latent_time", title="latent time"),
        )


def of_fates(estimator: GPCCA, basis: str, layer: str | None) -> Iterator[Picture]:
    """Pictures of what has been found: macrostates, the chain that they are, fates, and genes of the first fates."""
    if estimator.macrostates is not None:
        yield "macrostates", functools.partial(estimator.plot_macrostates, basis=basis)
    if estimator.coarse_T is not None:
        yield "coarse_T", estimator.plot_coarse_T
    fates = estimator.fate_probabilities
    if fates is not None:
        yield "fate_probabilities", functools.partial(estimator.plot_fate_probabilities, basis=basis)
    if fates is None or estimator.lineage_drivers is None:
        return
    known: set[str] = set()
    for number, lineage in enumerate(fates.names[:MOST_LINEAGES]):
        name = f"drivers_{file_name(lineage)}"
        name = f"{name}_{number}" if name in known else name
        known.add(name)
        yield (
            name,
            functools.partial(estimator.plot_lineage_drivers, lineage, n_genes=N_DRIVERS, basis=basis, layer=layer),
        )


def of_demo(estimator: GPCCA, key: str, basis: str, cluster_key: str) -> Iterator[Picture]:
    """Picture of the arrows beside the fates, if there are any; it stands in the README."""
    if estimator.fate_probabilities is not None:
        yield "overview", functools.partial(_overview, estimator, key, basis, cluster_key)


def _overview(estimator: GPCCA, key: str, basis: str, cluster_key: str, save: Path) -> None:
    """Draw stream lines over the clusters, and the fates that they lead to, side by side into a file."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", facecolor="white")
    pl.projection_stream(
        estimator.adata, basis, key, color=cluster_key, title="where cells are heading", linewidth=0.8, ax=left
    )
    estimator.plot_fate_probabilities(basis=basis, size=30, ax=right)
    with written_whole(save) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)


def of_trends(estimator: GPCCA, trends: Trends, cluster_key: str | None) -> Iterator[Picture]:
    """Pictures of the leading genes of the first fates, along the time."""
    lineages = trends.lineages[:MOST_LINEAGES]
    leading = leading_genes(trends, estimator, min(MOST_OF_FATE, MOST_ROWS // len(lineages)))
    first = list(dict.fromkeys(gene for lineage in lineages for gene in leading[lineage][:N_CURVES]))
    every = list(dict.fromkeys(gene for lineage in lineages for gene in leading[lineage]))
    yield "gene_trends", functools.partial(pl.gene_trends, estimator.adata, first, lineages, ncols=N_CURVES)
    looks = {"cluster_key": cluster_key, "show_fate_probabilities": len(lineages) > 1}
    yield "heat_map", functools.partial(pl.heatmap, estimator.adata, every, lineages, **looks)


def file_name(name: str) -> str:
    """Replace what a file system may not take in the name of a file."""
    return re.sub(r'[\s/\\:*?"<>|\x00-\x1f]+', "_", name)
