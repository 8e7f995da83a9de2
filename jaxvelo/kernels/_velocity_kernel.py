"""Transition probabilities from RNA velocity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from jaxvelo.annotated.arguments import check_integer
from jaxvelo.annotated.checksums import checksum
from jaxvelo.annotated.entries import require_anndata
from jaxvelo.annotated.feature_data import FeatureData
from jaxvelo.annotated.features_in_blocks import FeatureReader, FeaturesInBlocks, come_in_blocks
from jaxvelo.annotated.memory_limit import bytes_of, for_pieces_and_blocks, within
from jaxvelo.annotated.progress_bar import bars, progress_bar
from jaxvelo.configuration import ignore_arguments, logger, timed
from jaxvelo.graph import NeighborGraph, TransitionMatrix
from jaxvelo.graph._row_blocks import RowBlock
from jaxvelo.kernels._neighbor_kernel import NeighborKernel
from jaxvelo.kernels._randomness import random_key
from jaxvelo.kernels._user_functions import check_traceable, name_of_choice, require_built_in
from jaxvelo.transitions import (
    BACKWARD_MODES,
    MODELS,
    SIMILARITIES,
    Features,
    Velocity,
    evaluate_velocity,
)
from jaxvelo.transitions._velocity_in_blocks import bytes_of_block, needs_all_velocities, velocity_in_blocks

_PARAMETERS = ("model", "similarity", "softmax_scale", "gene_weights", "bwd_mode", "n_samples", "seed")
BLOCKS_IN_MEMORY = 1 << 30
"""Bytes for blocks of layers in memory: larger ones copy little less, as neighbours are near in each."""


class VelocityKernel(NeighborKernel):
    """Kernel of RNA velocity: cells move to neighbours that lie in the direction of their velocity.

    Parameters
    ----------
    adata
        Annotated data with gene expression, velocity and neighbours.
    backward
        Direction of the process.
    attr
        ``"layers"`` or ``"obsm"``: where expression and velocity are.
    xkey
        Key of the expression, such as ``"Ms"``; ``"X"`` or ``None`` for ``adata.X``.
    vkey
        Key of the velocity, likewise.
    gene_subset
        Genes to use: key in ``adata.var``, mask or names. If ``None``, ``adata.var["{vkey}_genes"]`` if there.
    conn_key
        Key of the neighbour graph in ``adata.obsp``, or name of the neighbours in ``adata.uns``; None for
        ``"connectivities"``.
    check_connectivity
        Whether to check that the graph is connected.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If shapes differ, weights or expression are not finite, or fewer than 2 genes remain.
    TypeError
        If ``backward`` is not ``bool``.

    Notes
    -----
    What differs from CellRank is listed in :mod:`jaxvelo.transitions.velocity`.

    Layers of half a gigabyte or more are not copied on a CPU, where there is no mesh: they are used where they are, or,
    if JAX cannot do so (those of :func:`jaxvelo.pp.moments` and :func:`jaxvelo.tl.velocity` with all their genes it
    can), rows are read in blocks, whose number, by ``memory_limit``, changes results by rounding. Put new arrays in
    their place rather than change their numbers while the kernel is in use: the kernel keeps those that it was made of.

    Examples
    --------
    >>> vk = jv.kernels.VelocityKernel(adata)
    >>> vk.compute_transition_matrix(softmax_scale=4.0)
    VelocityKernel[n=150, model='deterministic', similarity='correlation', softmax_scale=4.0]
    >>> vk.transition_matrix.shape
    (150, 150)
    """

    parameters_of_cells: ClassVar[tuple[str, ...]] = ("softmax_scale",)

    def __init__(
        self,
        adata: AnnData,
        backward: bool = False,
        attr: str = "layers",
        xkey: str | None = "Ms",
        vkey: str | None = "velocity",
        gene_subset: str | Sequence[str] | np.ndarray | None = None,
        conn_key: str | None = "connectivities",
        check_connectivity: bool = False,
    ):
        require_anndata(adata)
        if not isinstance(backward, (bool, np.bool_)):
            raise TypeError(f"Expected `backward` to be `bool`, found `{type(backward).__name__}`.")
        xkey, vkey = ("X" if key is None else key for key in (xkey, vkey))
        super().__init__(adata, {}, conn_key, check_connectivity)
        self._data: FeatureData | FeaturesInBlocks
        if come_in_blocks(adata, attr, xkey, vkey, gene_subset):
            self._data = FeaturesInBlocks(adata, xkey, vkey, gene_subset)
        else:
            self._data = FeatureData(adata, attr, xkey, vkey, gene_subset)
        self.init = {"backward": bool(backward), "attr": attr, "xkey": xkey, "vkey": vkey}
        if gene_subset is not None:
            self.init["gene_subset"] = gene_subset if isinstance(gene_subset, str) else np.asarray(gene_subset)
        if self.conn_key != "connectivities":
            self.init["conn_key"] = self.conn_key
        self._backward = bool(backward)
        self._similarity: Callable[..., jax.Array] | None = None
        self._logits: tuple[jax.Array, ...] | None = None

    def compute_transition_matrix(
        self,
        model: str = "deterministic",
        backward_mode: str = "transpose",
        similarity: Any = "correlation",
        softmax_scale: float | np.ndarray | None = None,
        n_samples: int = 1000,
        seed: int | jax.Array | None = None,
        gene_weights: np.ndarray | None = None,
        memory_limit: int | float | str | None = None,
        **kwargs: Any,
    ) -> VelocityKernel:
        """Compute the transition matrix.

        Expression and velocity in layers on disk, see :func:`jaxvelo.read`, stay there: they are read in blocks of
        cells with their neighbours, once for the deterministic model, and twice for the others where they have the
        automatic scale. Probabilities equal those of layers in memory but for rounding. Blocks that are finished are
        noted in files beside the layers, or in ``jaxvelo.settings.layerdir``, until all are: where this is interrupted
        or killed, the same call goes on from there, with the same ``memory_limit`` to the same bits. Not so with a
        similarity of one's own, or where the layers are in no file.

        Parameters
        ----------
        model
            ``"deterministic"``, ``"stochastic"`` or ``"monte_carlo"``: whether, and how, the uncertainty of the
            velocity is propagated; see :class:`jaxvelo.transitions.Velocity`.
        backward_mode
            ``"transpose"`` or ``"negate"``, for a backward process.
        similarity
            ``"correlation"``, ``"cosine"``, ``"dot_product"``, or a JAX function ``(v, displacements) -> logits``.
        softmax_scale
            Scale of the softmax, one for all cells or one for each, shape ``(cells,)``; the inverse of the median
            magnitude of the logits if ``None``.
        n_samples
            Number of samples of the Monte Carlo model.
        seed
            Seed or random key of the Monte Carlo model.
        gene_weights
            Non-negative weight of each of the :attr:`genes` in the similarity; ones if ``None``.
        memory_limit
            Memory for blocks of layers, besides the graph and the result: bytes, or a text such as ``"8 GiB"``; if
            ``None``, half of what is free for layers on disk, and 1 GiB for large ones in memory that are read in
            blocks.
        kwargs
            ``show_progress_bar``: whether to show a bar where layers are read in blocks. ``n_jobs`` and ``backend`` are
            accepted as by CellRank; without effect.

        Returns
        -------
        The kernel, with :attr:`transition_matrix`, :attr:`logits` and :attr:`params` updated.

        Raises
        ------
        ValueError
            If an argument is not one of the above, the probabilities are not finite, or ``memory_limit`` is too small
            for one block of cells (the message says how much is needed).
        OSError
            If layers on disk cannot be read.
        TypeError
            If ``similarity`` is not a function of velocity and displacements, or for unknown arguments.

        Examples
        --------
        >>> vk.compute_transition_matrix(model="monte_carlo", n_samples=10, seed=0).params["model"]
        'monte_carlo'
        """
        _check_choice("model", model, MODELS)
        _check_choice("backward_mode", backward_mode, BACKWARD_MODES)
        _ignore_known(kwargs)
        self._check_similarity(similarity)
        softmax_scale = self._checked_scale(softmax_scale)
        gene_weights = self._checked_gene_weights(gene_weights)
        check_integer("n_samples", n_samples, least=1)
        key = random_key(seed) if model == "monte_carlo" else None
        shown = kwargs.get("show_progress_bar")
        with timed(f"Computing transition matrix using `{model!r}` model"), bars(shown):
            named = name_of_choice(similarity, SIMILARITIES)
            params: dict[str, Any] = {"model": model, "similarity": named, "softmax_scale": softmax_scale}
            if self.backward:
                params["bwd_mode"] = backward_mode
            if model == "monte_carlo":
                params |= {"n_samples": int(n_samples), "seed": seed if isinstance(seed, (int, np.integer)) else None}
            if self.backward and backward_mode == "transpose" and model != "deterministic":
                logger.warning(
                    "Mode `%r` is currently not supported for backward process by transpose. "
                    "Using `mode='deterministic'`; it works with `backward_mode='negate'`",
                    model,
                )
                model = params["model"] = "deterministic"
            if gene_weights is not None:
                params["gene_weights"] = gene_weights
            function = None if isinstance(similarity, str) else similarity
            velocity, pad = self._transition_function(params, function), _may_pad(params)
            if isinstance(self._data, FeaturesInBlocks):
                # Large layers in memory are not padded in one piece either.
                pad = pad and self._data.on_disk
                values, logits, scale = self._evaluate_in_blocks(self._data, velocity, pad, key, memory_limit)
            else:
                features = self._data.features(pad, self.graph, shared=True)
                values, logits, scale = evaluate_velocity(velocity, self.graph, features, key)
            if softmax_scale is None:
                params["softmax_scale"] = float(scale)
                logger.info("Using `softmax_scale=%.4f`", params["softmax_scale"])
            self.set_transitions(TransitionMatrix(self.graph, values), params)
            self._similarity, self._logits = function, logits
        return self

    def _evaluate_in_blocks(
        self, data: FeaturesInBlocks, velocity: Velocity, pad: bool, key: jax.Array | None, memory_limit: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...], jax.Array]:
        """Probabilities, logits and scale, of layers that are read in blocks."""
        if self.graph.pattern.mesh is not None and jax.process_count() > 1:
            raise ValueError(
                "Expected one process for layers on disk, found that several share the graph. Load the layers as "
                "`adata.to_memory()`, or unset `jaxvelo.settings.mesh`."
            )
        n_bytes = bytes_of_block(data.row_bytes, needs_all_velocities(velocity))
        if memory_limit is None and not data.on_disk:
            largest = int(np.diff(self.connectivities.indptr).max(initial=0))
            budget = max(BLOCKS_IN_MEMORY, 2 * n_bytes(1, largest + 1))
        else:
            budget = bytes_of(memory_limit)
        piece, for_blocks = for_pieces_and_blocks(budget)

        def in_blocks(reader: FeatureReader) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...], jax.Array]:
            notes = None
            if isinstance(velocity.similarity, str):  # a function may be another one of the same name the next time
                notes = data.notes(lambda: [*_origin(velocity, self.graph, key), pad])
            # Two ways through the cells where a scale is derived before their uncertainty is propagated.
            n_ways = 1 if velocity.model == "deterministic" or velocity.softmax_scale is not None else 2
            with within(budget), progress_bar(n_ways * self.shape[0], "Transitions", "cells") as bar:

                def read(block: RowBlock, n_gathered: int, n_velocities: int) -> Features:
                    bar.update(len(block.own))
                    return reader(block, n_gathered, n_velocities)

                found = velocity_in_blocks(
                    velocity, self.graph, self.connectivities, read, n_bytes, for_blocks, key, notes
                )
            if notes is not None:
                notes.remove()
            return found

        return data.use(in_blocks, pad, piece)

    def _checked_scale(self, scale: Any) -> float | np.ndarray | None:
        if scale is None:
            return None
        array = np.asarray(scale)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"Expected `softmax_scale` to be a number or None, found `{type(scale).__name__}`.")
        if array.shape not in ((), (self.shape[0],)):
            raise ValueError(
                f"Expected `softmax_scale` to be one number or one for each of the {self.shape[0]} cells, found shape "
                f"{array.shape}."
            )
        if not (np.isfinite(array).all() and (array > 0).all()):
            raise ValueError(f"Expected `softmax_scale` to be positive and finite, or None, found `{scale}`.")
        return float(array) if array.ndim == 0 else array.astype(np.float64)

    def _checked_gene_weights(self, weights: Any) -> np.ndarray | None:
        if weights is None:
            return None
        array, n_genes = np.asarray(weights), len(self.genes)
        if array.dtype.kind not in "iuf" or array.shape != (n_genes,):
            raise ValueError(
                f"Expected `gene_weights` to be one number for each of the {n_genes} genes in use (`kernel.genes`), "
                f"found {array.dtype} of shape {array.shape}."
            )
        if not (np.isfinite(array).all() and (array >= 0).all() and np.count_nonzero(array) >= 2):
            raise ValueError("Expected `gene_weights` to be finite and not negative, and at least two to be positive.")
        return array.astype(np.float64)

    def _check_similarity(self, similarity: Any) -> None:
        if isinstance(similarity, str):
            return _check_choice("similarity", similarity, tuple(SIMILARITIES))
        if not callable(similarity):
            raise TypeError(
                f"Expected `similarity` to be one of {tuple(SIMILARITIES)} or a function, "
                f"found `{type(similarity).__name__}`."
            )
        n_genes, dtype = self._data.n_genes, self._data.dtype
        v, displacements = jax.ShapeDtypeStruct((n_genes,), dtype), jax.ShapeDtypeStruct((3, n_genes), dtype)
        rewrite = (
            "Write it as a JAX function of one velocity, shape (genes,), and displacements, shape (neighbors, genes), "
            "that returns logits, shape (neighbors,), for example `lambda v, displacements: displacements @ v`. The "
            "softmax, its scale, and second derivatives are taken care of; CellRank's `(v, D, softmax_scale) -> "
            "(probabilities, logits)` becomes its logits alone, with `jax.numpy` in place of `numpy`."
        )
        return check_traceable(similarity, (v, displacements), "similarity", rewrite)

    @property
    def logits(self) -> sp.csr_matrix | None:
        """Similarities before the softmax, shape ``(cells, cells)``; ``None`` before they are computed."""
        return None if self._logits is None else self.graph_data.layout.to_csr(self._logits, eliminate_zeros=True)

    @property
    def backward(self) -> bool:
        """Direction of the process."""
        return self._backward

    @property
    def transition_function(self) -> Velocity:
        """The pure transition function with the parameters in use; not computed yet, with the automatic scale."""
        return self._transition_function(self.params, self._similarity)

    def _transition_function(self, params: dict[str, Any], function: Callable[..., jax.Array] | None) -> Velocity:
        """The transition function of parameters, and of a user's similarity, which parameters only name."""
        named = params.get("similarity", "correlation")
        return Velocity(
            params.get("softmax_scale"),
            params.get("gene_weights"),
            model=params.get("model", "deterministic"),
            similarity=require_built_in(named, SIMILARITIES, "similarity") if function is None else function,
            backward_mode=params.get("bwd_mode", "transpose") if self.backward else None,
            n_samples=int(params.get("n_samples", 1000)),
            features=self._data.name,
            edges=self.conn_key,
        )

    @property
    def features(self) -> dict[str, Features]:
        """Gene expression and velocity of the genes in use, by name."""
        return {self._data.name: self._data.features(_may_pad(self.params), self.graph)}

    @property
    def genes(self) -> np.ndarray:
        """Names of the genes in use; of features in ``adata.obsm``, their numbers."""
        return self._data.genes

    @property
    def features_name(self) -> str:
        """Name of the features in :attr:`features` and in the transition function."""
        return self._data.name

    def with_parameters(self, softmax_scale: Any, gene_weights: np.ndarray | None, seed: Any = None) -> VelocityKernel:
        """Return a copy with another softmax scale and other gene weights, computed by the same model.

        Parameters
        ----------
        softmax_scale, gene_weights
            As of :meth:`compute_transition_matrix`.
        seed
            Seed of the Monte Carlo model, where the kernel has none.

        Returns
        -------
        The copy, computed.

        Examples
        --------
        >>> vk.with_parameters(2.0, gene_weights=None).params["softmax_scale"]
        2.0
        """
        transition_function, known = self.transition_function, self.params.get("seed")
        return self.copy().compute_transition_matrix(
            transition_function.model,
            transition_function.backward_mode or "transpose",
            transition_function.similarity,
            softmax_scale,
            transition_function.n_samples,
            seed if known is None else known,
            gene_weights,
        )

    def restore(self, matrix: sp.csr_matrix, params: dict[str, Any]) -> None:
        """Take a stored result, unchanged to the last bit.

        Raises
        ------
        ValueError
            If a stored parameter is that of other cells or genes.
        """
        # Files give keys back in another order, which would show in the printout.
        known = {name: params[name] for name in _PARAMETERS if name in params}
        for name, things in (("softmax_scale", "cells"), ("gene_weights", "genes in use")):
            if not np.isscalar(known.get(name, 0)):
                n_expected = self.shape[0] if name == "softmax_scale" else len(self.genes)
                known[name] = np.asarray(known[name], dtype=np.float64)
                if known[name].shape != (n_expected,):
                    raise ValueError(
                        f"Expected the stored `{name}` to be one number for each of the {n_expected} {things}, found "
                        f"shape {known[name].shape}: it is that of other {things}. Compute the kernel anew."
                    )
        super().restore(matrix, known)
        self._similarity, self._logits = None, None

    def __invert__(self) -> Self:
        other = self.copy()
        other._backward = not self._backward
        other.init = {**self.init, "backward": other._backward}
        other._params, other._result = {}, None
        other._similarity, other._logits = None, None
        return other

    @classmethod
    def recognizes(cls, init: dict[str, Any]) -> bool:
        """Whether CellRank stores these arguments for a kernel of this class."""
        return "vkey" in init


def _origin(velocity: Velocity, graph: NeighborGraph, key: jax.Array | None) -> list[Any]:
    """What probabilities are computed of besides the features, as JSON takes it."""
    options = [velocity.model, velocity.similarity, velocity.backward_mode, velocity.n_samples, velocity.edges_name]
    parameters = [velocity.log_scale, velocity.gene_weights, None if key is None else jax.random.key_data(key)]
    of_parameters = [None if array is None else checksum(np.asarray(array)) for array in parameters]
    of_graph = checksum(*map(np.asarray, jax.tree.leaves(graph)))
    shapes = [list(columns.shape) for columns in graph.columns]
    return [*options, *of_parameters, str(jnp.result_type(float)), of_graph, shapes]


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Expected `{name}` to be one of {choices}, found `{value!r}`.")


def _may_pad(params: dict[str, Any]) -> bool:
    """Whether padded genes do no harm: a user's similarity would see them, and gene weights do not cover them."""
    return params.get("similarity", "correlation") in SIMILARITIES and "gene_weights" not in params


def _ignore_known(kwargs: dict[str, Any]) -> None:
    unknown = set(kwargs) - {"n_jobs", "backend", "show_progress_bar"}
    if unknown:
        raise TypeError(f"Unexpected arguments {sorted(unknown)} of `compute_transition_matrix`.")
    ignore_arguments(n_jobs=kwargs.get("n_jobs"), backend=kwargs.get("backend"))
