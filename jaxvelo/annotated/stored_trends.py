"""Trends of genes along a time, with names: as tables, as curves, and in AnnData."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int

from jaxvelo.annotated.arguments import check_integer, is_number, listed
from jaxvelo.annotated.entries import require_anndata, require_key
from jaxvelo.annotated.fate_keys import FateKeys
from jaxvelo.annotated.names import places_of, text_of
from jaxvelo.annotated.plain_values import plain, without_none
from jaxvelo.annotated.storable_columns import with_named_columns, with_storable_columns
from jaxvelo.annotated.stored_states import chosen_states
from jaxvelo.annotated.trend_clusters import TrendClusters, cluster_curves
from jaxvelo.configuration import logger
from jaxvelo.trends import Curve, evaluate_trends

STATISTICS = (
    "statistic",
    "pval",
    "qval",
    "peak_time",
    "amplitude",
    "degrees_of_freedom",
    "scale",
    "dispersion",
    "converged",
)
"""What is said of each gene's curve, in the order of the columns."""

TESTS = ("statistic", "pval", "qval")
"""What is said of each comparison."""

ALL_CELLS = "all cells"
"""Name of the lineage where there are no fates."""

COMPARED_POINTS = 100
"""Times at which trends are compared."""

REMEDY = "Fit trends with `jaxvelo.tl.fit_trends(adata, time_key=...)` first."


class Line(NamedTuple):
    """What a curve is of: the cells of a lineage, and perhaps of one condition.

    Attributes
    ----------
    lineage
        Name of the lineage.
    condition
        Name of the condition, empty for all cells.
    """

    lineage: str
    condition: str

    @property
    def label(self) -> str:
        """Name in the columns of stored tables."""
        return f"{self.lineage} ({self.condition})" if self.condition else self.lineage


class Comparison(NamedTuple):
    """What is compared: a lineage with another one, or one condition of a lineage with the others.

    Attributes
    ----------
    lineage
        Name of the lineage.
    other
        Name of the other lineage, empty if conditions are compared.
    condition
        Name of the condition, empty if lineages are compared.
    """

    lineage: str
    other: str
    condition: str

    @property
    def label(self) -> str:
        """Name in the columns of stored tables."""
        return f"{self.lineage} vs {self.other}" if self.other else f"{self.lineage} ({self.condition} vs rest)"


@dataclasses.dataclass(frozen=True, eq=False)
class Trends:
    """Trends of genes along a time, one for each lineage, as :func:`jaxvelo.tl.fit_trends` finds them.

    Attributes
    ----------
    genes
        Names of the genes.
    lines
        What each curve is of.
    ranges
        First and last time of each curve.
    n_effective
        Number of cells that the weights of each curve amount to.
    coefficients, covariances
        Of the basis functions, see :class:`jaxvelo.trends.TrendFit`.
    statistics
        What is said of each curve, by name.
    comparisons
        What is compared.
    differences
        What is found of each comparison, by name.
    parameters
        What was asked for.

    Examples
    --------
    >>> trends = jv.tl.fit_trends(adata, time_key="true_time")
    >>> table = trends.to_frame()
    >>> table.loc[table["qval"] < 0.05, "lineage"].unique().tolist()
    ['Fate A', 'Fate B']
    """

    genes: pd.Index
    lines: list[Line]
    ranges: Float[np.ndarray, "curves 2"]
    n_effective: Float[np.ndarray, " curves"]
    coefficients: Float[np.ndarray, "curves genes n_knots"]
    covariances: Float[np.ndarray, "curves genes n_knots n_knots"]
    statistics: dict[str, Float[np.ndarray, "curves genes"]]
    comparisons: list[Comparison]
    differences: dict[str, Float[np.ndarray, "comparisons genes"]]
    parameters: dict[str, Any]

    @property
    def time_key(self) -> str:
        """Column of ``adata.obs`` with the time."""
        return self.parameters["time_key"]

    @property
    def is_of_counts(self) -> bool:
        """Whether curves are expected counts at size factor 1; otherwise they are of the expression itself."""
        return self.parameters["distribution"] != "normal"

    @property
    def lineages(self) -> list[str]:
        """Names of the lineages."""
        return list(dict.fromkeys(line.lineage for line in self.lines))

    @property
    def conditions(self) -> list[str]:
        """Names of the conditions, none if there are none."""
        return list(dict.fromkeys(line.condition for line in self.lines if line.condition))

    def __repr__(self) -> str:
        over = f" in the conditions {listed(self.conditions)}" if self.conditions else ""
        return f"Trends of {len(self.genes)} genes along {self.time_key!r} to {listed(self.lineages)}{over}"

    def to_frame(self) -> pd.DataFrame:
        """Give a table with a row for each gene and curve.

        Returns
        -------
        pandas.DataFrame
            Columns: ``gene``, ``lineage``, ``condition`` (if there are any; empty for all cells together);
            ``statistic`` (1 on average without change), ``pval`` and ``qval`` of the test of change; ``peak_time``,
            where the curve is highest; ``amplitude``, the difference of its largest and smallest value;
            ``degrees_of_freedom``, 2 for a straight line; ``scale``, the residual variance relative to the model's;
            ``dispersion`` of counts, and whether the iterations ``converged``.

        Examples
        --------
        >>> table = jv.tl.fit_trends(adata, ["gene_20", "gene_33"], time_key="true_time").to_frame()
        >>> table[["gene", "lineage"]].values.tolist()
        [['gene_20', 'Fate A'], ['gene_33', 'Fate A'], ['gene_20', 'Fate B'], ['gene_33', 'Fate B']]
        """
        table = self._tidy(self.lines, ("lineage", "condition"), self.statistics, STATISTICS)
        table["converged"] = table["converged"] == 1
        return table if self.conditions else table.drop(columns="condition")

    def differences_to_frame(self) -> pd.DataFrame:
        """Give a table with a row for each gene and comparison.

        Returns
        -------
        pandas.DataFrame
            Columns: ``gene``, ``lineage``, ``other`` (the lineage it is compared with) and ``condition`` (that is
            compared with the other ones within the lineage), of which one is empty; ``statistic``, ``pval``, ``qval``.

        Examples
        --------
        >>> table = jv.tl.fit_trends(adata, ["gene_20"], time_key="true_time").differences_to_frame()
        >>> table[["gene", "lineage", "other"]].values.tolist()
        [['gene_20', 'Fate A', 'Fate B']]
        """
        return self._tidy(self.comparisons, Comparison._fields, self.differences, TESTS)

    def _tidy(self, rows: Sequence[Any], names: Sequence[str], numbers: dict[str, np.ndarray], columns: Sequence[str]):
        n_genes = len(self.genes)
        table = {"gene": np.tile(self.genes.to_numpy(), len(rows))}
        table |= {name: np.repeat([getattr(row, name) for row in rows], n_genes) for name in names}
        return pd.DataFrame(table | {name: numbers[name].ravel() for name in columns})

    def curves_of(self, lineages: Any = None, conditions: bool | None = None) -> list[int]:
        """Give the places of curves.

        Parameters
        ----------
        lineages
            Names of lineages, or one; all by default.
        conditions
            Whether those of each condition, or those of all cells together; both by default.

        Returns
        -------
        Their places along the first axis of :attr:`coefficients`.

        Raises
        ------
        KeyError, ValueError
            If there is no such lineage, or none is named.

        Examples
        --------
        >>> jv.tl.fit_trends(adata, ["gene_20"], time_key="true_time").curves_of("Fate B")
        [1]
        """
        chosen = [self.lineages[i] for i in chosen_states(self.lineages, lineages, "lineages")]
        return [
            place
            for lineage in chosen
            for place, line in enumerate(self.lines)
            if line.lineage == lineage and (conditions is None or bool(line.condition) == conditions)
        ]

    def places(self, genes: Any, argument: str = "genes") -> Int[np.ndarray, " genes"]:
        """Give the places of genes.

        Parameters
        ----------
        genes
            Names, or one; all for :obj:`None`.
        argument
            What an error calls them.

        Returns
        -------
        Their places in :attr:`genes`.

        Raises
        ------
        KeyError
            If a gene has no trends.
        ValueError
            If none is named, or one is there more than once.

        Examples
        --------
        >>> jv.tl.fit_trends(adata, ["gene_20", "gene_33"], time_key="true_time").places("gene_33").tolist()
        [1]
        """
        if genes is None:
            return np.arange(len(self.genes))
        wanted = [genes] if isinstance(genes, str) else list(genes)
        if not wanted:
            raise ValueError(f"Expected at least one gene in `{argument}`, found none.")
        known = [gene in self.genes for gene in wanted]
        if not all(known):
            absent = [gene for gene, is_known in zip(wanted, known, strict=True) if not is_known]
            raise KeyError(
                f"Expected genes with trends in `{argument}`, found {listed(absent, 5)}, which have none; genes are "
                f"like {listed(self.genes[:3])}. Fit their trends with `jaxvelo.tl.fit_trends`, or check the spelling."
            )
        return places_of(self.genes, wanted, "genes", argument)

    def evaluate(
        self, curve: int, places: Int[np.ndarray, " genes"], n_points: int = 200, level: float = 0.95
    ) -> tuple[Float[np.ndarray, " points"], Curve]:
        """Evaluate a curve of some genes at equally distant times of its range.

        Parameters
        ----------
        curve
            Place of the curve, see :meth:`curves_of`.
        places
            Those of the genes, see :meth:`places`.
        n_points
            Number of times.
        level
            Share of the times at which bands cover the truth.

        Returns
        -------
        The times, and the :class:`jaxvelo.trends.Curve`, of shape ``(genes, n_points)``.

        Examples
        --------
        >>> trends = jv.tl.fit_trends(adata, ["gene_20", "gene_33"], time_key="true_time")
        >>> times, curve = trends.evaluate(0, trends.places(["gene_20"]), n_points=50)
        >>> times.shape, curve.values.shape
        ((50,), (1, 50))
        """
        low, high = self.ranges[curve]
        times = np.linspace(low, high, n_points)
        return times, evaluate_trends(
            self.coefficients[curve, places],
            self.covariances[curve, places],
            times,
            (low, high),
            spline_order=self.parameters["spline_order"],
            counts=self.is_of_counts,
            level=level,
        )

    def curves(self, genes: Any = None, lineages: Any = None, n_points: int = 200, level: float = 0.95) -> pd.DataFrame:
        """Give the curves as a table with a row for each gene, curve and time.

        Parameters
        ----------
        genes, lineages
            Names, or one; all by default.
        n_points
            Number of times for each curve.
        level
            Share of the times at which bands cover the truth.

        Returns
        -------
        pandas.DataFrame
            Columns: ``gene``, ``lineage``, ``condition`` (if there are any), ``time``; ``value`` with its band from
            ``lower`` to ``upper``; the derivative ``slope`` with its band from ``slope_lower`` to ``slope_upper``.

        Raises
        ------
        KeyError, ValueError
            If a gene or lineage has no trends, or a number is out of range.

        Examples
        --------
        >>> table = jv.tl.fit_trends(adata, ["gene_20"], time_key="true_time").curves(n_points=50)
        >>> table.shape
        (100, 9)
        """
        check_integer("n_points", n_points, 2)
        check_level(level)
        places, tables = self.places(genes), []
        for curve in self.curves_of(lineages):
            times, values = self.evaluate(curve, places, n_points, level)
            table = {"gene": np.repeat(self.genes[places].to_numpy(), n_points), **self.lines[curve]._asdict()}
            table |= {"time": np.tile(times, len(places))}
            table |= {
                {"values": "value"}.get(name, name): values_of.ravel() for name, values_of in values._asdict().items()
            }
            tables.append(pd.DataFrame(table))
        found = pd.concat(tables, ignore_index=True)
        return found if self.conditions else found.drop(columns="condition")

    def clusters(
        self,
        lineage: Any = None,
        genes: Any = None,
        n_clusters: int | None = None,
        *,
        norm: bool = True,
        random_state: int = 0,
    ) -> pd.Series:
        """Group genes whose trends towards a fate are alike, by k-means.

        Parameters
        ----------
        lineage
            Name of the lineage; may be left out if there is one alone.
        genes
            Names of genes; all by default. Those whose trend does not change are left out.
        n_clusters
            Number of groups; by default that of the best separated ones (by the mean silhouette), from 2 to 8.
        norm
            Whether each trend is scaled to mean 0 and variance 1 before.
        random_state
            Seed of the groups' start values.

        Returns
        -------
        pandas.Series
            The number of each gene's group, from 0, in the order of the peaks of their mean trends.

        Raises
        ------
        KeyError, ValueError
            If a name or a number does not fit.

        Examples
        --------
        >>> trends = jv.tl.fit_trends(adata, time_key="true_time")
        >>> groups = trends.clusters("Fate A", n_clusters=3)
        >>> groups.nunique()
        3
        """
        return self.grouped(lineage, genes, n_clusters, norm, random_state).to_series()

    def grouped(self, lineage: Any, genes: Any, n_clusters: int | None, norm: bool, random_state: int) -> TrendClusters:
        """Give the groups of :meth:`clusters` with the curves that were compared.

        Parameters
        ----------
        lineage, genes, n_clusters, norm, random_state
            As of :meth:`clusters`.

        Returns
        -------
        Genes, numbers of their groups, lineage, times and the curves of shape ``(genes, times)``.

        Raises
        ------
        KeyError, ValueError
            As :meth:`clusters` does.

        Examples
        --------
        >>> trends = jv.tl.fit_trends(adata, time_key="true_time")
        >>> found = trends.grouped("Fate A", None, n_clusters=3, norm=True, random_state=0)
        >>> found.curves.shape[0] == len(found.genes)
        True
        """
        if n_clusters is not None:
            check_integer("n_clusters", n_clusters, 1)
        check_integer("random_state", random_state, 0)
        curves = self.curves_of(lineage, conditions=False)
        if len(curves) != 1:
            raise ValueError(
                f"Expected the name of one lineage as `lineage`, found `{lineage!r}`. There are "
                f"{listed(self.lineages)}."
            )
        places = self.places(genes)
        times, found = self.evaluate(curves[0], places, COMPARED_POINTS)
        values, spread = found.values, found.values.std(axis=1)
        known = np.isfinite(values).all(axis=1) & (spread > 1e-6 * np.abs(values).max(axis=1))
        if not known.all():
            logger.warning("Leaving out %d genes without a trend, or with a constant one", np.count_nonzero(~known))
            places, values, spread = places[known], values[known], spread[known]
        least = 2 if n_clusters is None else n_clusters
        if len(values) < least:
            raise ValueError(
                f"Expected at least {least} genes to group, found {len(values)} with a trend that changes. Name more "
                "`genes`, or fewer groups in `n_clusters`."
            )
        if norm:
            values = (values - values.mean(axis=1, keepdims=True)) / spread[:, None]
        codes = cluster_curves(values, n_clusters, int(random_state))
        return TrendClusters(self.genes[places], codes, self.lines[curves[0]].lineage, times, values)

    def write(self, adata: AnnData, key: str = "trends") -> None:
        """Write the trends into AnnData; genes without trends get NaN.

        Parameters
        ----------
        adata
            Annotated data with these genes.
        key
            ``.uns[key]`` holds the parameters; ``.varm[key]`` what is said of the curves, in columns
            ``"<lineage>_<statistic>"``; ``.varm[f"{key}_differences"]`` the comparisons;
            ``.varm[f"{key}_coefficients"]`` and ``.varm[f"{key}_covariances"]`` what curves and bands are made of.

        Raises
        ------
        KeyError, ValueError
            If a gene of the trends is not in ``adata``, or there more than once.

        Examples
        --------
        >>> trends = jv.tl.fit_trends(adata, ["gene_20"], time_key="true_time")
        >>> trends.write(adata, "again")
        >>> "again" in adata.uns
        True
        """
        rows = places_of(adata.var_names, list(self.genes), "adata.var_names", "genes")
        upper = np.triu_indices(self.coefficients.shape[2])
        covariances = self.covariances[:, :, upper[0], upper[1]].astype(np.float32)

        def spread(values: np.ndarray) -> np.ndarray:
            """All genes' rows, from curves by genes."""
            flat = np.moveaxis(values, 0, 1).reshape(len(rows), -1)
            whole = np.full((adata.n_vars, flat.shape[1]), np.nan, flat.dtype)
            whole[rows] = flat
            return whole

        def table(rows_of: Sequence[Any], names: Sequence[str], numbers: dict[str, np.ndarray]) -> pd.DataFrame:
            columns = {
                f"{row.label}_{name}": spread(numbers[name])[:, i] for i, row in enumerate(rows_of) for name in names
            }
            return with_storable_columns(pd.DataFrame(columns, index=adata.var_names))

        entries: dict[str, Any] = {
            key: table(self.lines, STATISTICS, self.statistics),
            f"{key}_coefficients": spread(self.coefficients),
            f"{key}_covariances": spread(covariances),
        }
        if self.comparisons:
            entries[f"{key}_differences"] = table(self.comparisons, TESTS, self.differences)
        elif f"{key}_differences" in adata.varm:
            del adata.varm[f"{key}_differences"]
        for name, entry in entries.items():
            adata.varm[name] = entry
        adata.uns[key] = {
            "params": without_none(self.parameters),
            "ranges": self.ranges,
            "n_effective": self.n_effective,
            "curves": _columns(self.lines, Line),
            "comparisons": _columns(self.comparisons, Comparison),
        }

    @classmethod
    def from_adata(cls, adata: AnnData, key: str = "trends") -> Trends:
        """Read the trends that :func:`jaxvelo.tl.fit_trends` has written.

        Parameters
        ----------
        adata
            Annotated data.
        key
            Where they stand.

        Returns
        -------
        The trends.

        Raises
        ------
        KeyError
            If there are none.
        ValueError
            If what stands there does not belong together.

        Examples
        --------
        >>> trends = jv.tl.fit_trends(adata, ["gene_20"], time_key="true_time")
        >>> jv.tl.Trends.from_adata(adata, "trends")
        Trends of 1 genes along 'true_time' to ['Fate A', 'Fate B']
        """
        require_anndata(adata)
        stored = require_key(adata.uns, key, "adata.uns", REMEDY)
        try:
            lines = [Line(*row) for row in _rows(stored["curves"], Line)]
            comparisons = [Comparison(*row) for row in _rows(stored["comparisons"], Comparison)]
            parameters = plain(dict(stored["params"]))
            n_knots, ranges = parameters["n_knots"], np.asarray(stored["ranges"], float).reshape(len(lines), 2)
            n_effective = np.asarray(stored["n_effective"], float).reshape(len(lines))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected trends in `adata.uns[{key!r}]`, found something else: {error}. {REMEDY}"
            ) from error
        flat = np.asarray(require_key(adata.varm, f"{key}_coefficients", "adata.varm", REMEDY), float)
        packed = np.asarray(require_key(adata.varm, f"{key}_covariances", "adata.varm", REMEDY), float)
        upper = np.triu_indices(n_knots)
        if flat.shape[1:] != (len(lines) * n_knots,) or packed.shape[1:] != (len(lines) * len(upper[0]),):
            raise ValueError(
                f"Expected `adata.varm['{key}_coefficients']` of {len(lines)} curves of {n_knots} numbers, found "
                f"{flat.shape[1:]}. {REMEDY}"
            )
        table = with_named_columns(require_key(adata.varm, key, "adata.varm", REMEDY))
        compared = with_named_columns(adata.varm[f"{key}_differences"]) if comparisons else pd.DataFrame()
        found = table[f"{lines[0].label}_converged"].notna().to_numpy()
        square = np.empty((len(lines), np.count_nonzero(found), n_knots, n_knots))
        values = np.moveaxis(packed[found].reshape(-1, len(lines), len(upper[0])), 1, 0)
        square[..., upper[0], upper[1]] = square[..., upper[1], upper[0]] = values

        def numbers(table: pd.DataFrame, rows: Sequence[Any], names: Sequence[str]) -> dict[str, np.ndarray]:
            try:
                return {
                    name: np.stack([table[f"{row.label}_{name}"].to_numpy(float)[found] for row in rows])
                    for name in names
                }
            except KeyError as error:
                raise KeyError(f"Expected the column {error} in `adata.varm[{key!r}]`, found none. {REMEDY}") from error

        return cls(
            adata.var_names[found],
            lines,
            ranges,
            n_effective,
            np.moveaxis(flat[found].reshape(-1, len(lines), n_knots), 1, 0),
            square,
            numbers(table, lines, STATISTICS),
            comparisons,
            numbers(compared, comparisons, TESTS)
            if comparisons
            else {name: np.empty((0, found.sum())) for name in TESTS},
            parameters,
        )


def fate_keys_of(trends: Trends) -> FateKeys:
    """Where the fates stand that the lineages are of."""
    return FateKeys(bool(trends.parameters.get("backward", False)))


def check_level(level: Any) -> None:
    """Raise a ValueError unless ``level`` is a level of confidence."""
    if not is_number(level) or not 0 < level < 1:
        raise ValueError(f"Expected `level` to be a number between 0 and 1, found `{level!r}`.")


def _columns(rows: Sequence[Any], kind: Any) -> dict[str, np.ndarray]:
    return {name: np.array([getattr(row, name) for row in rows], dtype=object) for name in kind._fields}


def _rows(columns: Any, kind: Any) -> list[tuple[str, ...]]:
    return list(
        zip(*([text_of(value) for value in np.atleast_1d(columns[name])] for name in kind._fields), strict=True)
    )
