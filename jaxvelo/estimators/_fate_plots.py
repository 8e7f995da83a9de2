"""Pictures of an estimator's results: each is a function of :mod:`jaxvelo.pl`, which reads them from AnnData."""

from __future__ import annotations

from typing import Any, Literal

from jaxvelo import pl
from jaxvelo.estimators._estimator import Estimator


class FatePlots(Estimator):
    """Methods that draw; all take the further arguments of the function that draws, such as ``save`` and ``ax``."""

    def plot_macrostates(
        self,
        which: Literal["all", "initial", "terminal", "initial_and_terminal"] = "all",
        states: Any = None,
        color: Any = None,
        discrete: bool = True,
        mode: Literal["embedding", "time"] = "embedding",
        time_key: str | None = "latent_time",
        basis: str | None = "umap",
        same_plot: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Draw macrostates, or those that are terminal or initial; see :func:`jaxvelo.pl.macrostates`.

        Parameters
        ----------
        which, states, color, discrete, mode, time_key, basis, same_plot, **kwargs
            As of :func:`jaxvelo.pl.macrostates`.

        Returns
        -------
        What :func:`jaxvelo.pl.macrostates` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.macrostates` does, as if there are no such states.

        Examples
        --------
        >>> axes = g.plot_macrostates(which="terminal", show=False)
        >>> axes.get_title()
        'terminal states'
        """
        return pl.macrostates(
            self.adata,
            which,
            states=states,
            color=color,
            discrete=discrete,
            mode=mode,
            time_key=time_key,
            basis=basis,
            same_plot=same_plot,
            backward=bool(self.backward),
            **kwargs,
        )

    def plot_fate_probabilities(
        self,
        states: Any = None,
        color: Any = None,
        mode: Literal["embedding", "time"] = "embedding",
        time_key: str | None = None,
        basis: str | None = "umap",
        same_plot: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Draw how probable the terminal states are as the cells' fates; see :func:`jaxvelo.pl.fate_probabilities`.

        Parameters
        ----------
        states, color, mode, time_key, basis, same_plot, **kwargs
            As of :func:`jaxvelo.pl.fate_probabilities`.

        Returns
        -------
        What :func:`jaxvelo.pl.fate_probabilities` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.fate_probabilities` does, as if there are no fates.

        Examples
        --------
        >>> axes = g.plot_fate_probabilities(same_plot=False, show=False)
        >>> len(axes)
        2
        """
        return pl.fate_probabilities(
            self.adata,
            states=states,
            color=color,
            mode=mode,
            time_key=time_key,
            basis=basis,
            same_plot=same_plot,
            backward=bool(self.backward),
            **kwargs,
        )

    def plot_spectrum(self, n: int | None = None, **kwargs: Any) -> Any:
        """Draw the leading eigenvalues and the gap between them; see :func:`jaxvelo.pl.spectrum`.

        Parameters
        ----------
        n, **kwargs
            As of :func:`jaxvelo.pl.spectrum`.

        Returns
        -------
        What :func:`jaxvelo.pl.spectrum` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.spectrum` does, as if there are no eigenvalues.

        Examples
        --------
        >>> axes = g.plot_spectrum(show=False)
        >>> axes.get_xlabel()
        'real part'
        """
        return pl.spectrum(self.adata, n, backward=bool(self.backward), **kwargs)

    def plot_schur_matrix(self, **kwargs: Any) -> Any:
        """Draw the Schur matrix; see :func:`jaxvelo.pl.schur_matrix`.

        Parameters
        ----------
        **kwargs
            As of :func:`jaxvelo.pl.schur_matrix`.

        Returns
        -------
        What :func:`jaxvelo.pl.schur_matrix` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.schur_matrix` does, as if there is no Schur matrix.

        Examples
        --------
        >>> axes = g.plot_schur_matrix(show=False)
        >>> axes.get_title()
        'Schur matrix'
        """
        return pl.schur_matrix(self.adata, backward=bool(self.backward), **kwargs)

    def plot_coarse_T(self, **kwargs: Any) -> Any:
        """Draw the transition matrix of the macrostates; see :func:`jaxvelo.pl.coarse_T`.

        Parameters
        ----------
        **kwargs
            As of :func:`jaxvelo.pl.coarse_T`.

        Returns
        -------
        What :func:`jaxvelo.pl.coarse_T` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.coarse_T` does, as if there are no macrostates.

        Examples
        --------
        >>> axes = g.plot_coarse_T(show=False)
        >>> axes.get_title()
        'transitions between macrostates'
        """
        return pl.coarse_T(self.adata, backward=bool(self.backward), **kwargs)

    def plot_macrostate_composition(self, key: Any, **kwargs: Any) -> Any:
        """Draw what the cells of the macrostates are; see :func:`jaxvelo.pl.macrostate_composition`.

        Parameters
        ----------
        key, **kwargs
            As of :func:`jaxvelo.pl.macrostate_composition`.

        Returns
        -------
        What :func:`jaxvelo.pl.macrostate_composition` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.macrostate_composition` does, as if there are no macrostates.

        Examples
        --------
        >>> axes = g.plot_macrostate_composition("clusters", show=False)
        >>> axes.get_title()
        'macrostates by clusters'
        """
        return pl.macrostate_composition(self.adata, key, backward=bool(self.backward), **kwargs)

    def plot_lineage_drivers(self, lineage: str, n_genes: int = 8, **kwargs: Any) -> Any:
        """Draw the genes that go with a fate most; see :func:`jaxvelo.pl.lineage_drivers`.

        Parameters
        ----------
        lineage, n_genes, **kwargs
            As of :func:`jaxvelo.pl.lineage_drivers`.

        Returns
        -------
        What :func:`jaxvelo.pl.lineage_drivers` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.lineage_drivers` does, as if there are no drivers.

        Examples
        --------
        >>> table = g.compute_lineage_drivers()
        >>> axes = g.plot_lineage_drivers("Fate A", n_genes=3, show=False)
        >>> len(axes)
        3
        """
        return pl.lineage_drivers(self.adata, lineage, n_genes, backward=bool(self.backward), **kwargs)

    def plot_lineage_drivers_correlation(self, lineage_x: str, lineage_y: str, **kwargs: Any) -> Any:
        """Draw how all genes go with one fate and with another; see :func:`jaxvelo.pl.lineage_drivers_correlation`.

        Parameters
        ----------
        lineage_x, lineage_y, **kwargs
            As of :func:`jaxvelo.pl.lineage_drivers_correlation`.

        Returns
        -------
        What :func:`jaxvelo.pl.lineage_drivers_correlation` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.lineage_drivers_correlation` does, as if there are no drivers.

        Examples
        --------
        >>> table = g.compute_lineage_drivers()
        >>> axes = g.plot_lineage_drivers_correlation("Fate A", "Fate B", show=False)
        >>> axes.get_xlabel()
        'correlation with Fate A'
        """
        return pl.lineage_drivers_correlation(self.adata, lineage_x, lineage_y, backward=bool(self.backward), **kwargs)
