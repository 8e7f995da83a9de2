"""The pancreas data of the tutorial."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jaxvelo.annotated.entries import layer_names
from jaxvelo.configuration import logger

if TYPE_CHECKING:
    from anndata import AnnData

PANCREAS_URL = "https://github.com/theislab/scvelo_notebooks/raw/master/data/Pancreas/endocrinogenesis_day15.h5ad"
# As published for this file by pinellolab/pyrovelocity (io/datasets.py).
PANCREAS_SHA256 = "9e3e459eca00ba06b496ec80def32941b5b2889918720e3e7aa6ffb811fbe7c6"
PANCREAS_COLORS = {
    "Ductal": "#8fbc8f",
    "Ngn3 low EP": "#f4a460",
    "Ngn3 high EP": "#fdbf6f",
    "Pre-endocrine": "#ff7f00",
    "Beta": "#b2df8a",
    "Alpha": "#1f78b4",
    "Delta": "#6a3d9a",
    "Epsilon": "#cab2d6",
}


def pancreas(path: str | os.PathLike | None = None) -> "AnnData":
    """Read the mouse pancreas at embryonic day 15.5: the data of the RNA velocity tutorials.

    3,696 cells that go from ductal cells to four endocrine fates (alpha, beta, delta, epsilon), with raw spliced and
    unspliced counts of 27,998 genes. Read from

    1. ``path``, if given;
    2. ``$JAXVELO_SHARED/data/pancreas_3696.h5ad``, if that variable is set (2,000 genes of the same cells);
    3. otherwise the copy in the operating system's cache folder (``pooch.os_cache("jaxvelo")``), which is downloaded
       once (52 MB) and whose SHA-256 is checked on every call.

    Parameters
    ----------
    path
        A ``.h5ad`` file to read instead of downloading one.

    Returns
    -------
    AnnData
        With ``layers["spliced"]``, ``layers["unspliced"]``, ``obs["clusters"]``, ``obsm["X_umap"]`` and
        ``uns["clusters_colors"]`` (the tutorial's colours, where the file has none).

    Raises
    ------
    FileNotFoundError
        If the file at ``path`` or below ``$JAXVELO_SHARED`` does not exist.
    OSError
        If the download fails or its content is not the published one.
    ValueError
        If the file lacks one of the entries above.
    ImportError
        If a download is needed and pooch is not installed.

    References
    ----------
    Bastidas-Ponce et al., Comprehensive single cell mRNA profiling reveals a detailed roadmap for pancreatic
    endocrinogenesis, Development 2019; as cut by scVelo (Bergen et al. 2020).

    Examples
    --------
    >>> counts.write_h5ad("pancreas.h5ad")
    >>> adata = jv.datasets.pancreas("pancreas.h5ad")  # without a path, the data are downloaded once
    >>> adata.layers["spliced"].shape
    (150, 40)
    """
    import anndata
    import pandas as pd

    shared = os.environ.get("JAXVELO_SHARED")
    if path is not None:
        source, file = "`path`", Path(path)
    elif shared:
        source, file = "the environment variable `JAXVELO_SHARED`", Path(shared) / "data" / "pancreas_3696.h5ad"
    else:
        source, file = "the cache", _download(PANCREAS_URL, PANCREAS_SHA256, "endocrinogenesis_day15.h5ad")
    if not file.is_file():
        raise FileNotFoundError(f"Expected the pancreas data at `{file}`, as {source} says, found no file there.")

    adata = anndata.read_h5ad(file)
    found = {"layers": layer_names(adata), "obs": list(adata.obs), "obsm": list(adata.obsm)}
    for attribute, key in (("layers", "spliced"), ("layers", "unspliced"), ("obs", "clusters"), ("obsm", "X_umap")):
        if key not in found[attribute]:
            raise ValueError(
                f"Expected `adata.{attribute}[{key!r}]` in `{file}`, found {sorted(found[attribute])}. "
                f"Is it the file from {PANCREAS_URL}?"
            )
    if not adata.var_names.is_unique:
        adata.var_names_make_unique()
    if not isinstance(adata.obs["clusters"].dtype, pd.CategoricalDtype):
        adata.obs["clusters"] = adata.obs["clusters"].astype(str).astype("category")
    categories = adata.obs["clusters"].cat.categories
    if "clusters_colors" not in adata.uns and set(categories) <= PANCREAS_COLORS.keys():
        adata.uns["clusters_colors"] = [PANCREAS_COLORS[name] for name in categories]
    return adata


def _download(url: str, sha256: str, name: str) -> Path:
    """Download a file into the cache once, and check it every time."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError('Downloading data needs pooch: pip install "jaxvelo[tutorial]".') from error
    folder = Path(pooch.os_cache("jaxvelo"))
    if not (folder / name).is_file():
        logger.info("Downloading `%s` to `%s`", url, folder / name)
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=folder, progressbar=True))
    except (OSError, ValueError) as error:  # no network and a full disk raise OSError, a wrong hash ValueError
        raise OSError(
            f"Could not download `{url}` to `{folder / name}`: {error} Download the file by hand and name it in "
            f"`path=`, or put it there."
        ) from error
