"""What a fit found, and how to keep it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from anndata import AnnData

from jaxvelo import fit, pl
from jaxvelo.annotated.entries import require_key
from jaxvelo.annotated.transition_keys import FORWARD, default_key
from jaxvelo.configuration import logger
from jaxvelo.fitting._change import summary
from jaxvelo.kernels import KernelExpression, from_adata


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A fitted kernel, and how it compares with the convention.

    The convention is the kernel as it was given, with the automatic softmax scale where the scale was fitted, and with
    the mean of weights that differed among cells where the weights were.

    Attributes
    ----------
    kernel
        The fitted kernel.
    objective
        Name of the objective.
    parameters
        ``"softmax_scale"``, ``"weights"`` (of the terms, in their order), numbers of kernels such as ``"b"``, and
        ``"gene_weights"``, as far as fitted: one,
        one for each level of an ``obs`` key along the first axis, or one for each cell. Numbered
        (``"softmax_scale_0"``) where the kernel has several velocity terms or sums.
    convention
        The same parameters of the convention.
    standard_errors
        Of scales and weights by Laplace's approximation, gene weights held fixed; only of a likelihood, or of a
        positive multiple of one, whose factor plays no part: its maximum is that of the likelihood. NaN where the
        likelihood has no proper maximum, as for a weight that goes to one. Where groups or blocks are taken as
        independent, the larger of these and of those clustered by them (:func:`jaxvelo.fit.clustered_covariance`; so
        Angrist & Pischke 2009, section 8.2: where few groups know of a number, the latter are too small). Sums of
        objectives have none: each term is a mean over its own items, and such a sum is no likelihood of them all.
    levels
        Names of the levels of ``"softmax_scale"`` and ``"weights"``.
    genes
        Names of the genes of ``"gene_weights"``.
    history
        ``"loss"`` (with penalties), ``"training"`` and ``"validation"``, each of shape ``(steps, starts)``.
    scores
        Losses ``"training"``, ``"training_convention"``, and on the held-out cells ``"validation"``,
        ``"validation_convention"``, ``"validation_gain"`` (convention minus fitted) and its standard error over the
        held-out cells, or their groups, ``"validation_gain_se"``. Those of validation are NaN if no cells were held
        out, and the standard error if all are of one group.
    training, validation
        Masks of the cells.
    groups
        What is taken as independent: ``"cells"``, ``"blocks"`` of the neighbour graph, or a column of ``adata.obs``.
    group
        Number of each cell's group; -1 for cells that the objective has no items of.
    prior
        Standard deviation of the prior of log scales and logits of weights; infinite without one.
    priors
        ``"candidates"``, and ``"loss"`` and ``"loss_se"`` (of the difference from the best) of each in the inner
        validation that chose it; empty if it was given.
    changed
        What of each cell the fit changes: ``"fate probabilities"``, ``"probabilities of later cells"`` (in the sets of
        the objective, after its steps), or ``"transition probabilities"``.
    change
        By how much, between 0 and 1: the largest change of any of these; of transition probabilities, half the sum of
        all changes (total variation). NaN for cells where they are given, such as terminal cells.
    fates
        ``"convention"`` and ``"fitted"``, fate probabilities of shape ``(cells, fates)``; empty if the objective has
        none.
    fate_names
        Names of the fates.
    doubtful
        Mask of the cells whose known fate looks wrong: improbable by the convention, and other than that of most
        neighbours.
    doubts
        What speaks against the fit, in words; each is logged as a warning too.
    outside
        Factor of what holds the cells of which the objective tells nothing.
    penalty
        Factor of the penalty of the gene weights.
    penalties
        ``"candidates"``, and ``"loss"`` and ``"loss_se"`` of each in the inner validation that chose the factor; empty
        if it was given.
    start, step
        Which start was best, and at which step.
    failed
        For each start, the step at which the loss was not finite; -1 if it always was.
    state
        Where the optimiser stands, to go on with ``fit_kernel(..., resume=result)``; ``None`` if read from AnnData.

    Examples
    --------
    >>> sorted(result.parameters)
    ['gene_weights', 'softmax_scale', 'weights']
    >>> result.history["loss"].shape  # steps, starts
    (5, 1)
    """

    kernel: KernelExpression
    objective: str
    parameters: dict[str, np.ndarray]
    convention: dict[str, np.ndarray]
    standard_errors: dict[str, np.ndarray]
    levels: dict[str, list[str]]
    genes: dict[str, np.ndarray]
    history: dict[str, np.ndarray]
    scores: dict[str, float]
    training: np.ndarray
    validation: np.ndarray
    groups: str
    group: np.ndarray
    prior: float
    priors: dict[str, np.ndarray]
    changed: str
    change: np.ndarray
    fates: dict[str, np.ndarray]
    fate_names: list[str]
    doubtful: np.ndarray
    doubts: list[str]
    outside: float
    penalty: float
    penalties: dict[str, np.ndarray]
    start: int
    step: int
    failed: np.ndarray
    state: fit.DescentState | None = dataclasses.field(default=None, repr=False)

    @property
    def is_validated(self) -> bool:
        """Whether cells were held out."""
        return bool(self.validation.any())

    @property
    def changes(self) -> dict[str, float]:
        """Root mean square and largest :attr:`change` of cells with and without labels (items); NaN if there are none.

        ``"with_labels_rms"``, ``"with_labels_max"``, ``"without_labels_rms"`` and ``"without_labels_max"``.
        """
        labelled = self.training | self.validation
        found = {}
        for name, cells in (("with_labels", labelled), ("without_labels", ~labelled)):
            found[f"{name}_rms"], found[f"{name}_max"] = summary(self.change, cells)
        return found

    def top_genes(self, n_genes: int = 10) -> list[tuple[str, float]]:
        """Genes of the largest weights and these, in units of the median weight.

        Parameters
        ----------
        n_genes
            Number of genes.

        Returns
        -------
        Name and weight of each.

        Raises
        ------
        ValueError
            If no gene weights of one velocity kernel were fitted.

        Examples
        --------
        >>> [gene in adata.var_names for gene, weight in result.top_genes(3)]
        [True, True, True]
        """
        if "gene_weights" not in self.parameters:
            raise ValueError("Expected fitted gene weights of one velocity kernel, found none in the result.")
        weights = self.parameters["gene_weights"]
        order = np.argsort(-weights, kind="stable")[:n_genes]
        median = float(np.median(weights))
        return [(str(self.genes["gene_weights"][i]), float(weights[i] / median)) for i in order]

    def __str__(self) -> str:
        """Summarise the fit in a few lines."""
        scores, n_steps = self.scores, len(self.history["loss"])
        lines = [
            f"FitResult: {self.objective}, {n_steps} steps, best at step {self.step}"
            + (f" of start {self.start}" if self.history["loss"].shape[1] > 1 else ""),
            f"  {int(self.training.sum())} training cells: {scores['training_convention']:.4f} (convention) -> "
            f"{scores['training']:.4f}",
        ]
        if self.is_validated:
            error = scores["validation_gain_se"]
            spread = "" if np.isnan(error) else f" ± {error:.4f}"
            before, gain = scores["validation_convention"], scores["validation_gain"]
            relative = f" ({gain / abs(before):.1%})" if before else ""
            if self.groups != "cells":
                count = len(np.unique(self.group[self.validation]))
                of = "blocks" if self.groups == "blocks" else f"group{'s' * (count != 1)} of {self.groups!r}"
                relative += f", {count} {of}"
            lines.append(
                f"  {int(self.validation.sum())} held-out cells: {before:.4f} (convention) -> "
                f"{scores['validation']:.4f}, gain {gain:.4f}{spread}{relative}"
            )
        else:
            lines.append("  no cells were held out: nothing is said about whether the fitted kernel is better")
        for name, value in sorted(self.parameters.items(), reverse=True):
            if name.startswith("gene_weights"):
                low, high = np.quantile(value, (0.05, 0.95)) / np.median(value)
                lines.append(
                    f"  {name}: 5 % to 95 % of genes {low:.2f} to {high:.2f} medians, penalty {self.penalty:g}"
                )
            elif value.ndim and len(value) == len(self.training):
                low, high = value.min(axis=0), value.max(axis=0)
                lines.append(f"  {name}: one for each cell, {_numbers(low)} to {_numbers(high)}")
            else:
                fitted = _numbers(value, self.standard_errors.get(name))
                lines.append(f"  {name}: {_numbers(self.convention[name])} -> {fitted}")
        if np.isfinite(self.prior):
            how = "chosen by validation" if self.priors else "given"
            lines.append(f"  prior of scales and weights: {self.prior:g}, {how}")
        changes = self.changes
        lines += [
            f"  {self.changed} of cells {where} labels: change {changes[f'{where}_labels_rms']:.2g} (root mean "
            f"square), {changes[f'{where}_labels_max']:.2g} at most"
            for where in ("with", "without")
            if not np.isnan(changes[f"{where}_labels_rms"])
        ]
        lines += [f"  ! {doubt}" for doubt in self.doubts]
        return "\n".join(lines)

    def plot(self, **kwargs: Any) -> Any:
        """Draw the history, the scores on held-out cells, the parameters and the genes that carry the fit.

        Parameters
        ----------
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.fit`.

        Returns
        -------
        What :func:`jaxvelo.pl.fit` returns.

        Raises
        ------
        TypeError, ValueError
            As :func:`jaxvelo.pl.fit` does.

        Examples
        --------
        >>> figure = result.plot(show=False)
        >>> type(figure).__name__
        'Figure'
        """
        return pl.fit(self, **kwargs)

    def plot_fates(self, **kwargs: Any) -> Any:
        """Draw the fates by the convention and by the fitted kernel, beside the truth where it is known.

        Parameters
        ----------
        kwargs
            Keyword arguments for :func:`jaxvelo.pl.fit_fates`.

        Returns
        -------
        What :func:`jaxvelo.pl.fit_fates` returns.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`jaxvelo.pl.fit_fates` does, as if the objective has no fates.

        Examples
        --------
        >>> axes = result.plot_fates(truth="true_fate_probabilities", show=False)
        >>> [panel.get_title() for panel in axes]
        ['Fate A, convention', 'Fate A, fitted', 'Fate A, truth', 'fitted − convention']
        """
        return pl.fit_fates(self, **kwargs)

    def write_to_adata(self, key: str | None = None, copy: bool = False) -> None:
        """Write the fitted kernel, see :meth:`KernelExpression.write_to_adata`, and the result as plain arrays.

        Parameters
        ----------
        key
            Key in ``adata.obsp``, and with ``"_fit"`` in ``adata.uns``; ``"T_fwd"`` or ``"T_bwd"`` if ``None``.
        copy
            Whether to copy the matrix.

        Examples
        --------
        >>> result.write_to_adata(key="fit")
        >>> print(jv.kernels.from_adata(result.kernel.adata, "fit"))
        (... * VelocityKernel[n=150] + ... * ConnectivityKernel[n=150])
        """
        self.kernel.write_to_adata(key, copy)
        key = default_key(self.kernel.backward) if key is None else key
        plain: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            if field.name in ("kernel", "state"):
                continue
            value = getattr(self, field.name)
            if isinstance(value, dict):
                value = {name: np.asarray(v) for name, v in value.items()}
            plain[field.name] = value
        for name in ("fate_names", "doubts"):
            plain[name] = np.asarray(getattr(self, name), dtype=str)
        plain["levels"] = {name: np.asarray(names, dtype=str) for name, names in self.levels.items()}
        plain["genes"] = {name: np.asarray(names).astype(str) for name, names in self.genes.items()}
        self.kernel.adata.uns[f"{key}_fit"] = plain
        logger.info("Adding `adata.uns[%r]`", f"{key}_fit")

    @classmethod
    def from_adata(cls, adata: AnnData, key: str = FORWARD, copy: bool = False) -> FitResult:
        """Read what :meth:`write_to_adata` wrote.

        Parameters
        ----------
        adata
            Annotated data.
        key
            Key that it was written with.
        copy
            Whether to copy the matrices.

        Returns
        -------
        The result, with its kernel, and without :attr:`state`.

        Raises
        ------
        KeyError
            If there is no such fit.
        ValueError
            If it is that of other cells.

        Examples
        --------
        >>> result.write_to_adata(key="fit")
        >>> jv.tl.FitResult.from_adata(result.kernel.adata, "fit").objective
        'FateLikelihood'
        """
        remedy = "Pass the key that the result was written with."
        stored = require_key(adata.uns, f"{key}_fit", "adata.uns", remedy)
        for name in ("training", "validation", "group", "change", "doubtful"):
            found = np.shape(stored.get(name))
            if found != (adata.n_obs,):
                raise ValueError(
                    f"Expected `adata.uns['{key}_fit'][{name!r}]` to have a value for each of the {adata.n_obs} "
                    f"cells, found shape {found}: the fit is that of other cells. Fit anew, or read the kernel alone "
                    f"by `jaxvelo.kernels.from_adata(adata, {key!r})`."
                )
        arrays: dict[str, Any] = {
            name: {k: np.array(v) for k, v in stored.get(name, {}).items()}
            for name in ("parameters", "convention", "standard_errors", "history", "priors", "penalties", "fates")
        }
        return cls(
            kernel=from_adata(adata, key, copy),
            objective=str(stored["objective"]),
            levels={name: [str(level) for level in levels] for name, levels in stored.get("levels", {}).items()},
            genes={name: np.array(names).astype(object) for name, names in stored.get("genes", {}).items()},
            scores={name: float(value) for name, value in stored["scores"].items()},
            training=np.array(stored["training"], dtype=bool),
            validation=np.array(stored["validation"], dtype=bool),
            groups=str(stored["groups"]),
            group=np.array(stored["group"], dtype=int),
            prior=float(stored["prior"]),
            changed=str(stored["changed"]),
            change=np.array(stored["change"], dtype=float),
            fate_names=[str(name) for name in stored["fate_names"]],
            doubtful=np.array(stored["doubtful"], dtype=bool),
            doubts=[str(doubt) for doubt in stored["doubts"]],
            outside=float(stored["outside"]),
            penalty=float(stored["penalty"]),
            start=int(stored["start"]),
            step=int(stored["step"]),
            failed=np.array(stored["failed"]),
            **arrays,
        )


def _numbers(value: np.ndarray, error: np.ndarray | None = None) -> str:
    """Write some numbers, with their standard errors where known."""
    value = np.asarray(value)
    if value.ndim == 0:
        known = error is not None and np.isfinite(error)
        return f"{float(value):.4g}" + (f" ± {float(error):.2g}" if known else "")  # type: ignore[arg-type]
    errors = [None] * len(value) if error is None else list(np.asarray(error))
    return "(" + ", ".join(_numbers(v, e) for v, e in zip(value, errors, strict=True)) + ")"
