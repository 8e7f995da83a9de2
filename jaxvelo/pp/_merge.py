"""Spliced and unspliced counts brought to data that were processed without them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import listed
from jaxvelo.annotated.counts import cell_sizes
from jaxvelo.annotated.entries import layer_names, require_anndata
from jaxvelo.configuration import accepts_data, logger
from jaxvelo.pp._cell_matching import CellMatches, match_cells
from jaxvelo.pp._count_layers import LAYERS
from jaxvelo.pp._gene_matching import GeneMatches, match_genes
from jaxvelo.pp._in_place import replace_content, require_in_memory
from jaxvelo.reading import find_counts


@accepts_data
def merge(
    adata: AnnData, counts: AnnData, samples: Mapping[str, str] | None = None, copy: bool = False
) -> AnnData | None:
    """Bring spliced and unspliced counts to processed data of the same cells.

    The counts of velocyto, kb-python, alevin-fry or STARsolo come with names of their own. Cells match if their names
    are equal, or else the barcodes in them: ``possorted_genome_bam_XYZ:AAACCTGAGAAACCATx``, ``AAACCTGAGAAACCAT-1``,
    ``sample1_AAACCTGAGAAACCAT`` and ``AAACCTGAGAAACCAT-1_2`` have the same one. Of several samples, only those match
    that belong together: by ``samples``, by name, or because nearly all of their barcodes are the same. Genes match by
    their names, or by what matches more of them: ``gene_ids``, velocyto's ``Accession`` and the like, without the
    versions of Ensembl. How many matched is in the log.

    Parameters
    ----------
    adata
        Processed data. Everything in it stays, for the cells and genes that have counts. The others are left out.
    counts
        Counts in ``counts.layers["spliced"]`` and ``["unspliced"]``, or as kb-python's ``mature`` and ``nascent``, in
        any order of cells and genes. Never changed.
    samples
        What stands around the barcodes of ``adata`` and of ``counts`` for the samples that belong together, as
        ``{"1": "possorted_genome_bam_XYZ"}``, where the names do not tell. An error lists them.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    anndata.AnnData or None
        The copy if ``copy``. Otherwise ``adata`` itself has the new ``.layers["spliced"]`` and ``["unspliced"]``, and
        ``["ambiguous"]`` if ``counts`` has it, of the type that they have in ``counts``, and, unless they are there,
        ``.obs["initial_size_spliced"]`` and ``["initial_size_unspliced"]``: the counts of each cell over all genes of
        ``counts``, by which :func:`filter_and_normalize` normalises. Cells and genes without a match are left out of
        it, also those of ``obsm``, ``obsp``, ``varm`` and ``varp``; ``raw`` loses the cells only.

    Raises
    ------
    KeyError
        If ``counts`` has no such layers.
    TypeError
        If one of the two is no AnnData object.
    ValueError
        If a cell of ``adata`` could be several ones of ``counts``, no cell or no gene matches, ``adata`` has other
        counts in these layers already, or is backed.

    See Also
    --------
    jaxvelo.read : reads counts.

    Examples
    --------
    >>> processed = counts.copy()
    >>> del processed.layers["spliced"], processed.layers["unspliced"]
    >>> jv.pp.merge(processed, counts)
    >>> [key in processed.layers for key in ("spliced", "unspliced")]
    [True, True]
    """
    require_anndata(adata)
    if not isinstance(counts, AnnData):
        raise TypeError(
            f"Expected `counts` to be an AnnData object, found `{type(counts).__name__}`. Read it by `jaxvelo.read`."
        )
    require_in_memory(adata)
    layers = find_counts(counts.layers)
    if not set(LAYERS) <= layers.keys():
        raise KeyError(
            f"Expected the layers 'spliced' and 'unspliced' in `counts`, found {listed(layer_names(counts))}. Name "
            "them, as by `counts.layers['spliced'] = counts.layers.pop('mature')`."
        )
    cells = match_cells(adata.obs_names, counts.obs_names, samples)
    genes = match_genes(adata.var, counts.var)
    new = {name: _chosen(counts.layers[key], cells.theirs, genes.theirs) for name, key in layers.items()}
    _check_unlike(adata, new, cells, genes)
    sizes = {f"initial_size_{name}": cell_sizes(_rows(counts.layers[layers[name]], cells.theirs)) for name in LAYERS}
    _report(adata, counts, cells, genes)

    is_whole = (len(cells.ours), len(genes.ours)) == adata.shape
    result = adata if is_whole and not copy and not adata.is_view else adata[cells.ours, genes.ours].copy()
    for name, layer in new.items():
        result.layers[name] = layer
    for key, size in sizes.items():
        if key not in result.obs:
            result.obs[key] = size
    if copy:
        return result
    if result is not adata:
        replace_content(adata, result)
    return None


def _rows(matrix: Any, rows: np.ndarray) -> Any:
    """Rows of a matrix, in memory."""
    if hasattr(matrix, "to_memory"):  # of an object that is backed
        matrix = matrix.to_memory()
    if sp.issparse(matrix) and matrix.format not in ("csr", "csc"):
        matrix = matrix.tocsr()
    return matrix[rows]


def _chosen(matrix: Any, rows: np.ndarray, columns: np.ndarray) -> Any:
    """Rows and columns of a matrix, as a new one of the same format and type."""
    chosen = _rows(matrix, rows)[:, columns]
    if sp.issparse(chosen):
        chosen.sort_indices()
    return chosen


def _check_unlike(adata: AnnData, new: Mapping[str, Any], cells: CellMatches, genes: GeneMatches) -> None:
    """Raise if the object has other counts already."""
    for name, layer in new.items():
        if name not in adata.layers:
            continue
        known = sp.csr_matrix(_chosen(adata.layers[name], cells.ours, genes.ours))
        n_different = (known != sp.csr_matrix(layer)).nnz
        if n_different:
            raise ValueError(
                f"Expected no `adata.layers[{name!r}]`, or one equal to that of `counts`, found one with {n_different} "
                f"other values. To take those of `counts`, delete it first: `del adata.layers[{name!r}]`."
            )


def _report(adata: AnnData, counts: AnnData, cells: CellMatches, genes: GeneMatches) -> None:
    """Say what matched and what is lost."""
    n_cells, n_genes = len(cells.ours), len(genes.ours)
    logger.info(
        "Matched %d of %d cells (as %r to %r) and %d of %d genes (by %s)",
        n_cells,
        adata.n_obs,
        str(adata.obs_names[cells.ours[0]]),
        str(counts.obs_names[cells.theirs[0]]),
        n_genes,
        adata.n_vars,
        genes.label,
    )
    if len(cells.samples) > 1:
        logger.info("Samples: %s", ", ".join(f"{ours!r} is {theirs!r}" for ours, theirs in cells.samples.items()))
    if genes.repeated:
        logger.info(
            "Found %d genes whose names are not unique, as %s: identifiers in both (`gene_ids`) would tell them apart",
            len(genes.repeated),
            listed(genes.repeated, 3),
        )
    lost_cells, lost_genes = adata.n_obs - n_cells, adata.n_vars - n_genes
    if lost_cells or lost_genes:
        few = 2 * n_cells < adata.n_obs or 2 * n_genes < adata.n_vars
        examples = [
            listed(np.delete(names, chosen), 3)
            for names, chosen in ((adata.obs_names, cells.ours), (adata.var_names, genes.ours))
        ]
        (logger.warning if few else logger.info)(
            "Leaving out %d cells %s and %d genes %s of `adata`, which `counts` does not have%s",
            lost_cells,
            examples[0],
            lost_genes,
            examples[1],
            "; graphs in `obsp` lose their edges: compute neighbours anew" if lost_cells and len(adata.obsp) else "",
        )
        if few:
            logger.warning(
                "The cells of `counts` are named like %s, its genes like %s",
                listed(counts.obs_names[:3]),
                listed(counts.var_names[:3]),
            )
    more_cells, more_genes = counts.n_obs - n_cells, counts.n_vars - n_genes
    if more_cells or more_genes:
        logger.info("Not used: %d cells and %d genes of `counts`, which `adata` does not have", more_cells, more_genes)
