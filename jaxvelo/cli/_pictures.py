"""The pictures, each drawn for itself: one that fails is a warning, and the others are drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxvelo import pl
from jaxvelo.annotated.embeddings import read_embedding
from jaxvelo.cli._errors import described, is_foreseen, message_of
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels import KernelExpression

if TYPE_CHECKING:
    from anndata import AnnData

N_PORTRAITS = 8
N_WALKS_DRAWN = 100

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
            text = message_of(error) if is_foreseen(error) else described(error)
            logger.warning("Could not draw `%s`: %s", path, text)
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
