"""What follows from fates: the genes that go with them, and how far cells are committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxvelo.annotated.lineage_priming import find_lineage_priming
from jaxvelo.configuration import ignore_arguments, logger, timed
from jaxvelo.estimators._estimator import Estimator
from jaxvelo.estimators._lineage_drivers import find_lineage_drivers, most_correlated_first
from jaxvelo.estimators._mixtures import plain_names
from jaxvelo.markov import stationary_distribution


class FateConsequences(Estimator):
    """Methods that compute lineage drivers and priming."""

    def compute_lineage_drivers(
        self,
        lineages: str | Sequence[str] | None = None,
        method: Literal["fisher", "perm_test"] = "fisher",
        cluster_key: str | None = None,
        clusters: str | Sequence[str] | None = None,
        layer: str | None = None,
        use_raw: bool = False,
        confidence_level: float = 0.95,
        n_perms: int = 1000,
        seed: int | None = None,
        nan_policy: Literal["propagate", "omit"] = "propagate",
        *,
        show_progress_bar: bool = True,
        n_jobs: int | None = None,
        backend: str | None = None,
    ) -> pd.DataFrame:
        """Find the genes whose expression goes with each fate.

        Parameters
        ----------
        lineages
            Names of fates, ``"Alpha, Beta"`` for two taken together; all if :obj:`None`.
        method, confidence_level, n_perms, seed, nan_policy, show_progress_bar
            As of :func:`jaxvelo.estimators.lineage_drivers`.
        cluster_key, clusters
            Column of ``adata.obs`` and some of its values: cells of others are left out.
        layer, use_raw
            Where the expression stands: ``adata.X``, a layer, or ``adata.raw``.
        n_jobs, backend
            Without effect.

        Returns
        -------
        The genes with their correlations, those that go most with the first fate first.

        Raises
        ------
        RuntimeError
            If there are no fates.
        KeyError, ValueError
            If a name is unknown or an argument out of range.

        Examples
        --------
        >>> table = g.compute_lineage_drivers(lineages="Fate A")
        >>> list(table.columns)
        ['Fate A_corr', 'Fate A_pval', 'Fate A_qval', 'Fate A_ci_low', 'Fate A_ci_high']
        """
        fates = self._require_fates()
        ignore_arguments(n_jobs=n_jobs, backend=backend)
        chosen = fates if lineages is None else fates[[lineages] if isinstance(lineages, str) else list(lineages)]
        numbers = chosen.X
        if fates.nlin == 1:
            logger.warning("There is one lineage only: correlating with the stationary distribution")
            numbers = stationary_distribution(self.transition_matrix)[:, None]
        with timed("Computing lineage drivers"):
            found, expression = find_lineage_drivers(
                self.adata,
                numbers,
                chosen.names.tolist(),
                method=method,
                cluster_key=cluster_key,
                clusters=clusters,
                layer=layer,
                use_raw=use_raw,
                confidence_level=confidence_level,
                n_perms=n_perms,
                seed=seed,
                nan_policy=nan_policy,
                show_progress_bar=show_progress_bar,
            )
            params = {"lineages": chosen.names.tolist(), "method": method, "cluster_key": cluster_key, "layer": layer}
            params |= {"clusters": plain_names(clusters), "use_raw": expression.use_raw, "seed": seed}
            params |= {"confidence_level": confidence_level, "n_perms": n_perms, "nan_policy": nan_policy}
            self._take({"lineage_drivers": params}, lineage_drivers=found)
        return most_correlated_first(found)

    def compute_lineage_priming(
        self,
        method: Literal["kl_divergence", "entropy"] = "kl_divergence",
        early_cells: Mapping[str, Any] | Sequence[Any] | np.ndarray | None = None,
    ) -> pd.Series:
        """Compute how far each cell is committed to a fate.

        See :func:`jaxvelo.estimators.lineage_priming` for the formulas.

        Parameters
        ----------
        method
            ``"kl_divergence"`` of the cell's fates from those of the early cells (Velten et al. 2017), or the
            ``"entropy"`` that they lack (Setty et al. 2019).
        early_cells
            Cells with the fates to compare with: names, a mask, or ``{"clusters": ["Ductal"]}``; all if :obj:`None`.

        Returns
        -------
        A number from 0 to 1 for each cell.

        Raises
        ------
        RuntimeError
            If there are no fates.
        KeyError, ValueError
            If cells are unknown, or ``method`` is.

        Examples
        --------
        >>> priming = g.compute_lineage_priming(early_cells={"clusters": "Progenitor"})
        >>> float(priming.min()), float(priming.max())
        (0.0, 1.0)
        """
        fates = self._require_fates()
        degrees = find_lineage_priming(self.adata, fates.X, method, early_cells)
        found = pd.Series(degrees, index=self.adata.obs_names)
        self._take({"priming_degree": {"method": method}}, priming_degree=found)
        return found.copy()
