"""What a transition matrix tells of the cells, under CellRank's names: walks, arrows, flow and boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxvelo import pl
from jaxvelo.annotated.embeddings import read_embedding
from jaxvelo.annotated.graphs import check_graph
from jaxvelo.annotated.order import square_in_order
from jaxvelo.annotated.put_back import put_back_on_failure
from jaxvelo.annotated.transition_keys import default_key
from jaxvelo.configuration import ignore_arguments, logger
from jaxvelo.kernels._boundary import cross_boundary_correctness
from jaxvelo.kernels._chain import CellChain
from jaxvelo.kernels._graph_data import on_neighbors
from jaxvelo.kernels._projection import add_arrows, are_used, arrows_of
from jaxvelo.kernels._random_walks import simulate


class Exploration(CellChain):
    """A chain with walks, pictures and scores: functions of AnnData and transition probabilities do the work."""

    def random_walks(
        self,
        n_sims: int = 100,
        max_iter: int | float = 0.25,
        seed: int | jax.Array | None = None,
        successive_hits: int = 0,
        start_ixs: Any = None,
        stop_ixs: Any = None,
    ) -> list[np.ndarray]:
        """Simulate random walks, without a picture.

        A walk goes from cell :math:`i` to cell :math:`j` with the probability :math:`T_{ij}`.

        Parameters
        ----------
        n_sims
            Number of walks.
        max_iter
            Largest number of steps; as a fraction, of the number of cells.
        seed
            Random seed or key.
        successive_hits
            How many further cells in ``stop_ixs`` in a row end a walk.
        start_ixs
            Where walks start: indices, names or a mask of cells, ``{"clusters": "Ngn3 low EP"}`` or
            ``{"pseudotime": [0, 0.1]}``; all cells if ``None``.
        stop_ixs
            Where walks end, likewise; nowhere if ``None``.

        Returns
        -------
        For each walk, the indices of the cells that it visits, its start first.

        Raises
        ------
        RuntimeError
            If the transition matrix was not computed.
        KeyError, IndexError, TypeError, ValueError
            If an argument is none of the above.

        Examples
        --------
        >>> walks = kernel.random_walks(n_sims=5, max_iter=20, seed=0, start_ixs={"clusters": "Progenitor"})
        >>> len(walks), len(walks[0])
        (5, 21)
        """
        self.require_transitions()
        return simulate(self.adata, self.transitions, n_sims, max_iter, seed, successive_hits, start_ixs, stop_ixs)

    def plot_random_walks(
        self,
        n_sims: int = 100,
        max_iter: int | float = 0.25,
        seed: int | jax.Array | None = None,
        successive_hits: int = 0,
        start_ixs: Any = None,
        stop_ixs: Any = None,
        basis: str = "umap",
        cmap: Any = "gnuplot",
        linewidth: float = 1.0,
        linealpha: float = 0.3,
        ixs_legend_loc: str | None = None,
        n_jobs: Any = None,
        backend: Any = None,
        show_progress_bar: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Simulate random walks and plot them in an embedding.

        Parameters
        ----------
        n_sims, max_iter, seed, successive_hits, start_ixs, stop_ixs
            As of :meth:`random_walks`.
        basis
            Embedding ``adata.obsm["X_{basis}"]``.
        cmap, linewidth, linealpha, ixs_legend_loc
            Colours along the walks, looks of the lines, and place of the legend of starts and ends.
        n_jobs, backend, show_progress_bar
            Accepted as by CellRank; without effect.
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.random_walks`.

        Returns
        -------
        What :func:`jaxvelo.pl.random_walks` returns.

        Raises
        ------
        RuntimeError, KeyError, IndexError, TypeError, ValueError
            As :meth:`random_walks` and :func:`jaxvelo.pl.random_walks` do.

        Examples
        --------
        >>> axes = kernel.plot_random_walks(n_sims=5, start_ixs={"clusters": "Progenitor"}, seed=0, show=False)
        >>> axes.get_title()
        'clusters'
        """
        ignore_arguments(n_jobs=n_jobs, backend=backend, show_progress_bar=show_progress_bar)
        read_embedding(self.adata, basis)
        walks = self.random_walks(n_sims, max_iter, seed, successive_hits, start_ixs, stop_ixs)
        logger.info("Plotting random walks")
        looks = {"cmap": cmap, "linewidth": linewidth, "linealpha": linealpha, "ixs_legend_loc": ixs_legend_loc}
        return pl.random_walks(self.adata, walks, basis=basis, **looks, **kwargs)

    def add_projection(
        self,
        basis: str = "umap",
        key_added: str | None = None,
        recompute: bool = False,
        connectivities: Any = None,
    ) -> None:
        """Project the transition matrix onto an embedding, without a picture.

        A cell's arrow is what its steps expect of the way in the embedding, less that of steps to any neighbour: see
        :func:`jaxvelo.markov.project`.

        Parameters
        ----------
        basis
            Embedding ``adata.obsm["X_{basis}"]``.
        key_added
            The arrows go to ``adata.obsm["{key_added}_{basis}"]``, scaled as matplotlib's quiver would; ``"T_fwd"`` or
            ``"T_bwd"`` if ``None``.
        recompute
            Whether to compute the arrows anew if they are there. Stored arrows that are not those of this kernel in
            this embedding are replaced, with a warning, under a default key; under another they are an error.
        connectivities
            Matrix whose entries are summed over; those of the underlying kernels if ``None``.

        Raises
        ------
        RuntimeError
            If the transition matrix was not computed, or no kernel has connectivities and none are given.
        KeyError
            If there is no such embedding.
        TypeError, ValueError
            If the embedding, the connectivities or what is stored under the key are of other cells, or not finite.

        Examples
        --------
        >>> kernel.add_projection(basis="umap")
        >>> adata.obsm["T_fwd_umap"].shape
        (150, 2)
        """
        adata, default = self.adata, default_key(self.backward)
        basis = basis.removeprefix("X_")
        key = default if key_added is None else key_added
        matrix = self.require_transitions()
        read_embedding(adata, basis)
        graph, name = self.connectivities, self.conn_key
        if connectivities is not None:
            square = square_in_order(connectivities, adata.obs_names, "connectivities")
            graph, name = check_graph(square, "connectivities"), None
        placed = None if graph is None else on_neighbors(self.transitions, matrix, graph, name)
        if not recompute and f"{key}_{basis}" in adata.obsm:
            arrows = None if placed is None else arrows_of(adata, *placed, basis)
            if are_used(adata, f"{key}_{basis}", arrows, key == default):
                return
        if placed is None:
            raise RuntimeError(
                "Unable to find connectivities in the kernel. Please supply them explicitly as `connectivities=...`."
            )
        strangers = [kernel for kernel in self.kernels if kernel.conn_key is None]
        if strangers:
            logger.warning(
                "`%s` is no kernel of neighbours: its cells go to distant ones too, over which arrows in an embedding "
                "average",
                type(strangers[0]).__name__,
            )
        add_arrows(adata, *placed, basis, key)

    def plot_projection(
        self,
        basis: str = "umap",
        key_added: str | None = None,
        recompute: bool = False,
        stream: bool = True,
        connectivities: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Project the transition matrix onto an embedding and plot it.

        Parameters
        ----------
        basis, key_added, recompute, connectivities
            As of :meth:`add_projection`.
        stream
            Whether to draw a stream plot; a grid of arrows otherwise.
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.projection_stream` or :func:`jaxvelo.pl.projection_grid`.

        Returns
        -------
        What :func:`jaxvelo.pl.projection_stream` or :func:`jaxvelo.pl.projection_grid` returns.

        Raises
        ------
        RuntimeError, KeyError, TypeError, ValueError
            As :meth:`add_projection` and the function that draws do; what was stored stays as it was then.

        Examples
        --------
        >>> axes = kernel.plot_projection(stream=False, show=False)
        >>> axes.get_title()
        'clusters'
        """
        adata = self.adata
        basis = basis.removeprefix("X_")
        key = default_key(self.backward) if key_added is None else key_added
        with put_back_on_failure((adata.obsm, f"{key}_{basis}"), (adata.uns, f"{key}_params")):
            self.add_projection(basis, key, recompute, connectivities)
            draw = pl.projection_stream if stream else pl.projection_grid
            return draw(adata, basis=basis, vkey=key, **kwargs)

    def plot_single_flow(
        self,
        cluster: str,
        cluster_key: str,
        time_key: str,
        clusters: Sequence[Any] | None = None,
        time_points: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Plot the flow out of a cluster over experimental time (Mittnenzweig et al. 2021).

        Parameters
        ----------
        cluster
            The cluster that the flow leaves.
        cluster_key, time_key
            Keys in ``adata.obs`` of clusters and experimental time.
        clusters, time_points
            Restrict to these; all if ``None``.
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.single_flow`.

        Returns
        -------
        What :func:`jaxvelo.pl.single_flow` returns.

        Raises
        ------
        RuntimeError
            If the transition matrix was not computed.
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.single_flow` does.

        Examples
        --------
        >>> adata.obs["day"] = np.digitize(adata.obs["true_time"], [6.0, 12.0, 18.0])
        >>> axes = kernel.plot_single_flow("Intermediate", "clusters", "day", show=False)
        >>> axes.get_xlabel()
        'day'
        """
        matrix = self.require_transitions()
        return pl.single_flow(self.adata, matrix, cluster, cluster_key, time_key, clusters, time_points, **kwargs)

    def cbc(self, source: str, target: str, cluster_key: str, rep: str, graph_key: str = "distances") -> np.ndarray:
        """Cross-boundary correctness from one cluster to another.

        See :func:`jaxvelo.markov.cross_boundary_correctness` for the formula.

        Parameters
        ----------
        source, target
            Names of the clusters.
        cluster_key
            Key in ``adata.obs`` with the clusters.
        rep
            Key in ``adata.obsm`` with the representation of the cells, such as ``"X_pca"``.
        graph_key
            Key in ``adata.obsp`` of the graph, or name in ``adata.uns`` of the neighbours, that decides which source
            cells are at the boundary.

        Returns
        -------
        For each source cell with a neighbour in the target, the correlation of the expected displacement under the
        kernel with the displacement towards these neighbours.

        Raises
        ------
        RuntimeError
            If the transition matrix was not computed.
        KeyError
            If a key is missing.
        TypeError, ValueError
            If a cluster does not exist, or what a key leads to is of other cells, or not finite.

        Examples
        --------
        >>> scores = kernel.cbc("Progenitor", "Intermediate", "clusters", rep="X_umap")
        >>> bool(scores.mean() > 0)
        True
        """
        self.require_transitions()
        return cross_boundary_correctness(self.adata, self.transitions, source, target, cluster_key, rep, graph_key)
