"""Transition probabilities along CytoTRACE's pseudotime."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import check_integer, listed
from jaxvelo.annotated.arrays import find_array, place_of
from jaxvelo.annotated.disk_arrays import check_readable
from jaxvelo.configuration import logger, timed
from jaxvelo.kernels._cytotrace_score import AGGREGATIONS, aggregated, correlations_with_expressed_genes
from jaxvelo.kernels._pseudotime_kernel import CYTOTRACE_TIME, PseudotimeKernel

_SCORE, _N_GENES, _CORRELATION, _CHOSEN, _PARAMS = (
    "ct_score", "ct_num_exp_genes", "ct_gene_corr", "ct_correlates", "ct_params",
)  # fmt: skip


class CytoTRACEKernel(PseudotimeKernel):
    """Kernel of similarities among cells that prefers cells that express fewer genes (Gulati et al. 2020).

    Cells lose genes as they differentiate: the genes whose expression goes along with the number of expressed genes
    give a pseudotime, see :meth:`compute_cytotrace`, and a :class:`PseudotimeKernel` follows it.

    Parameters
    ----------
    adata
        Annotated data with neighbours. A pseudotime of CytoTRACE that it has is used.
    backward
        Direction of the process: whether cells go towards earlier times.
    conn_key
        Key of the neighbour graph in ``adata.obsp``, or name of the neighbours in ``adata.uns``; None for
        ``"connectivities"``.
    check_connectivity
        Whether to check that the graph is connected.

    Raises
    ------
    KeyError
        If there is no such graph.
    ValueError
        If weights are negative or not finite.

    References
    ----------
    Gulati et al., Single-cell transcriptional diversity is a hallmark of developmental potential, Science 2020.

    Examples
    --------
    >>> jv.kernels.CytoTRACEKernel(adata).compute_cytotrace().compute_transition_matrix()
    CytoTRACEKernel[n=150, dnorm=False, scheme='hard', frac_to_keep=0.3]
    """

    def __init__(
        self,
        adata: AnnData,
        backward: bool = False,
        conn_key: str | None = "connectivities",
        check_connectivity: bool = False,
    ):
        super().__init__(adata, CYTOTRACE_TIME, backward, conn_key, check_connectivity)

    def _read_time(self) -> np.ndarray | None:
        return super()._read_time() if CYTOTRACE_TIME in self.adata.obs else None

    def compute_cytotrace(
        self,
        layer: str | None = "Ms",
        aggregation: str = "mean",
        use_raw: bool = False,
        n_genes: int = 200,
    ) -> Self:
        """Compute the score and the pseudotime.

        The genes that correlate most with the number of genes that a cell expresses are chosen, and their expression is
        aggregated in each cell. Rows are read some at a time: sparse matrices stay sparse, and matrices on disk stay
        there.

        Parameters
        ----------
        layer
            Key of ``adata.layers`` with the expression that is aggregated, which should be smooth over neighbours, such
            as that of :func:`jaxvelo.pp.moments`; ``"X"`` or None for ``adata.X``.
        aggregation
            ``"mean"``, ``"median"``, ``"hmean"`` (harmonic) or ``"gmean"`` (geometric).
        use_raw
            Whether expressed genes are counted, and correlated, in ``adata.raw`` instead of ``adata.X``.
        n_genes
            How many genes are aggregated.

        Returns
        -------
        The kernel. Its AnnData object gets

        - ``.obs["ct_num_exp_genes"]``: number of genes that each cell expresses;
        - ``.obs["ct_score"]``: the score, from 0 to 1; ``.obs["ct_pseudotime"]``: one less the score;
        - ``.var["ct_gene_corr"]``: correlation of each gene with the number of expressed genes;
          ``.var["ct_correlates"]``: whether it is one of those that were chosen;
        - ``.uns["ct_params"]``: the arguments.

        A transition matrix that the kernel has is left out: it is of another pseudotime.

        Raises
        ------
        KeyError
            If there is no such layer.
        ValueError
            If an argument is not one of the above, expression is not finite, no gene has a correlation, all cells have
            the same score, or genes of ``adata.raw`` cannot be told by their names.

        References
        ----------
        Gulati et al. (2020); with moments of neighbours in place of their smoothing, as in CellRank.

        Examples
        --------
        >>> kernel = jv.kernels.CytoTRACEKernel(adata).compute_cytotrace()
        >>> bool(adata.obs["ct_pseudotime"].between(0, 1).all())
        True
        """
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"Expected `aggregation` to be one of {AGGREGATIONS}, found `{aggregation!r}`.")
        check_integer("n_genes", n_genes, 1)
        adata = self.adata
        if use_raw and adata.raw is None:
            logger.warning("`adata.raw` is `None`. Setting `use_raw=False`")
            use_raw = False
        counted, names, where = (
            (adata.raw.X, adata.raw.var_names, "adata.raw.X") if use_raw else (adata.X, adata.var_names, "adata.X")
        )
        expression, layer_place = find_array(adata, layer, "layers"), place_of(layer, "layers")
        for matrix, place in ((counted, where), (expression, layer_place)):
            if matrix is None:
                raise ValueError(f"Expected a matrix in `{place}`, found None. Set it, or pass the key of a layer.")
            check_readable(matrix, place)
        message = f"Computing CytoTRACE score with `{len(names)}` genes"
        if len(names) < 10000:
            message += ". Consider using more than `10000` genes"
        if use_raw and not (names.is_unique and adata.var_names.is_unique):
            raise ValueError(
                "Expected names of genes in `adata.raw` and `adata` that are unique, to find those of the one in "
                "the other, found some several times. Make them unique, or pass "
                "`use_raw=False`."
            )
        with timed(message):
            n_expressed, correlations = correlations_with_expressed_genes(counted, where)
            chosen = _most_correlated(correlations, names, adata.var_names, n_genes)
            score = aggregated(expression, chosen, aggregation, layer_place)
            score -= score.min()
            if not score.max() > 0:
                raise ValueError(
                    f"Expected expression in `{layer_place}` that differs among cells, found the same {aggregation} of "
                    f"the {chosen.sum()} chosen genes in all of them. Pass another `layer`, or another `aggregation`."
                )
            score /= score.max()
            adata.obs[_SCORE] = score
            adata.obs[CYTOTRACE_TIME] = 1 - score
            adata.obs[_N_GENES] = n_expressed
            adata.var[_CORRELATION] = (
                pd.Series(correlations, index=names).reindex(adata.var_names).to_numpy() if (use_raw) else correlations
            )
            adata.var[_CHOSEN] = chosen
            adata.uns[_PARAMS] = {
                "aggregation": aggregation,
                "layer": "X" if layer is None else layer,
                "use_raw": bool(use_raw),
                "n_genes": int(chosen.sum()),
            }
            logger.info(
                "Adding `adata.obs[%r]`, `adata.obs[%r]`, `adata.obs[%r]`, `adata.var[%r]`, `adata.var[%r]`, "
                "`adata.uns[%r]`",
                _SCORE, CYTOTRACE_TIME, _N_GENES, _CORRELATION, _CHOSEN, _PARAMS,
            )  # fmt: skip
        self._time = 1 - score
        self._params, self._result, self._function = {}, None, None
        return self

    def _require_time(self) -> np.ndarray:
        if self._time is None:
            raise RuntimeError("Compute pseudotime first as `.compute_cytotrace()`.")
        return self._time

    @classmethod
    def from_arguments(cls, adata: AnnData, init: dict[str, Any], matrix: sp.csr_matrix | None) -> Self:
        """Make a kernel of stored arguments; the column of the pseudotime is always the same."""
        return cls(adata, **{name: value for name, value in init.items() if name != "time_key"})

    @classmethod
    def recognizes(cls, init: dict[str, Any]) -> bool:
        """Whether CellRank stores these arguments for a kernel of this class."""
        return init.get("time_key") == CYTOTRACE_TIME


def _most_correlated(correlations: np.ndarray, names: pd.Index, own: pd.Index, n_genes: int) -> np.ndarray:
    """Mask of the genes in ``own`` of the largest correlations; of equal ones the first, and none without."""
    order = np.argsort(-correlations, kind="stable")  # NaN last
    places = own.get_indexer(names[order]) if not names.equals(own) else order
    known = ~np.isnan(correlations[order])
    chosen = places[(places >= 0) & known][:n_genes]
    if not len(chosen):
        raise ValueError(
            f"Expected genes like {listed(own[:3])} whose expression correlates with the number of expressed genes, "
            "found none: their expression is constant, or all cells express as many genes. Pass raw or normalised "
            "counts of all genes, as `adata.X` or, with `use_raw=True`, as `adata.raw`."
        )
    if len(chosen) < n_genes:
        logger.warning(
            "Expected %d genes that go with the number of expressed genes, found %d: using these", n_genes, len(chosen)
        )
    mask = np.zeros(len(own), dtype=bool)
    mask[chosen] = True
    return mask
