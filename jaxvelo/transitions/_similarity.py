"""Similarity of velocities and displacements: the logits of the transition probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from jaxvelo.graph import Halo, Pattern, map_rows
from jaxvelo.graph._blocks import of_neighbors, of_own_cells
from jaxvelo.graph._precision import full_precision
from jaxvelo.transitions._features import Features
from jaxvelo.transitions._inner_product import InnerProduct, safe_divide, safe_sqrt

Similarity = str | Callable[[Float[Array, " genes"], Float[Array, "neighbors genes"]], Float[Array, " neighbors"]]

SIMILARITIES = {"correlation": (True, True), "cosine": (False, True), "dot_product": (False, False)}
"""Whether to centre over genes and whether to divide by the norms: correlation is the cosine of centred vectors, and
cosine the dot product of unit vectors (Li et al. 2020, eqs. 4.7-4.9)."""

Logits = tuple[tuple[Float[Array, "rows width"], ...], tuple[Bool[Array, "rows width"], ...]]


def similarity_logits(
    similarity: Similarity,
    features: Features,
    gene_weights: Float[Array, " genes"] | None,
    pattern: Pattern,
    mask: tuple[Bool[Array, "rows width"], ...],
    transpose: bool,
) -> Logits:
    r"""Logits of all edges, bucket by bucket.

    Forward, :math:`\ell_{ij}` compares the velocity :math:`v_i` with the displacement :math:`x_j - x_i`; with
    ``transpose``, :math:`v_j` with :math:`x_i - x_j`, still for the neighbours :math:`j` of :math:`i`.

    Parameters
    ----------
    mask
        Which slots have logits.

    Returns
    -------
    Logits, zero where there is no edge, and where they are defined: the edges without those whose displacement or
    velocity has norm zero (no direction; probability zero), for similarities that divide by the norms.
    """
    if isinstance(similarity, str):
        return _built_in(similarity, features, gene_weights, pattern, mask, transpose)
    return _custom(similarity, features, gene_weights, pattern, mask, transpose)


def _built_in(similarity: str, features: Features, gene_weights, pattern: Pattern, mask, transpose: bool) -> Logits:
    center, normalize = SIMILARITIES[similarity]
    product = InnerProduct.over_genes(features, gene_weights, center)
    x = jax.vmap(product.expression)(features.x)
    lengths: Any
    if transpose:
        u, norms = jax.vmap(product.velocity)(features.v)

        def backward(product, own, others):
            (own, _), (others, u) = own, others
            delta, mean = product.displacements(own, others)
            return -jnp.einsum("kg,kg->k", delta, u), product.norms(delta, mean) if normalize else None

        # Only the sums over genes stand in the loop: every further step there costs as often as there are blocks.
        options: Any = {"slot_bytes": slot_bytes(features), "halo": features.halo}
        logits, lengths = map_rows(Partial(backward, product), pattern, (x, u), **options)
        speeds = of_neighbors(pattern, norms, features.halo) if normalize else ()
    elif pattern.mesh is None:
        logits, lengths, speeds = _forward(product, x, features.v, pattern, normalize)
    else:
        logits, lengths, speeds = _forward_at_once(product, x, features.v, pattern, normalize, features.halo)
    if not normalize:
        return tuple(jnp.where(edge, logit, 0) for logit, edge in zip(logits, mask, strict=True)), mask
    lengths = tuple(length * speed for length, speed in zip(lengths, speeds, strict=True))
    return (
        tuple(jnp.where(e, safe_divide(logit, n), 0) for logit, n, e in zip(logits, lengths, mask, strict=True)),
        tuple(edge & (n > 0) for n, edge in zip(lengths, mask, strict=True)),
    )


@eqx.filter_custom_jvp
def _forward(product: InnerProduct, x: Any, v: Array, pattern: Pattern, normalize: bool) -> Any:
    """Inner products of velocities and displacements, lengths of the displacements, and norms of the velocities.

    The velocities are centred where they are needed, block by block, so that there is no copy of them.
    """

    def of_row(product, v, own, others, row):
        delta, mean = product.displacements(own, others)
        u, norm = product.velocity(v[row])
        lengths = (product.norms(delta, mean), norm[None]) if normalize else (None, None)
        return jnp.einsum("kg,g->k", delta, u), *lengths

    return map_rows(Partial(of_row, product, v), pattern, x, pattern.rows, slot_bytes=_bytes_of_row(v))


@_forward.def_jvp
@full_precision
def _forward_and_tangents(primals: Any, tangents: Any) -> Any:
    """The same with derivatives: each block would have a gradient of the size of all velocities."""
    return eqx.filter_jvp(_forward_at_once, primals, tangents)


def _forward_at_once(
    product: InnerProduct, x: Any, v: Array, pattern: Pattern, normalize: bool, halo: Halo | None = None
) -> Any:
    """What :func:`_forward` gives, with velocities that are centred, and brought to the rows, all at once."""
    u, norms = jax.vmap(product.velocity)(v)

    def of_row(product, own, others, u):
        delta, mean = product.displacements(own, others)
        return jnp.einsum("kg,g->k", delta, u), product.norms(delta, mean) if normalize else None

    options: Any = {"slot_bytes": _bytes_of_row(v), "halo": halo}
    logits, lengths = map_rows(Partial(of_row, product), pattern, x, of_own_cells(pattern, u, halo), **options)
    speeds = tuple(own[:, None] if normalize else None for own in of_own_cells(pattern, norms, halo))
    return logits, lengths, speeds


def _custom(similarity, features: Features, gene_weights, pattern: Pattern, mask, transpose: bool) -> Logits:
    """Logits by a user's function. Gene weights scale velocity and displacement by their square roots."""
    x, root = scaled_by_weights(features, gene_weights)

    def forward(root, own, others, edge, v):
        return jnp.where(edge, similarity(v * root, others - own[None]), 0)

    def backward(root, own, others, edge):
        (own, _), (others, v) = own, others
        delta = others - own[None]
        logits = jax.vmap(lambda v_j, delta_j: similarity(v_j, -delta_j[None])[0])(v * root[None], delta)
        return jnp.where(edge, logits, 0)

    options: Any = {"slot_bytes": slot_bytes(features), "halo": features.halo}
    if transpose:
        return map_rows(Partial(backward, root), pattern, (x, features.v), mask, **options), mask
    of_rows = of_own_cells(pattern, features.v, features.halo)
    return map_rows(Partial(forward, root), pattern, x, mask, of_rows, **options), mask


def scaled_by_weights(
    features: Features, gene_weights: Float[Array, " genes"] | None
) -> tuple[Float[Array, "cells genes"], Float[Array, " genes"]]:
    """Expression times the square roots of the gene weights, and these roots."""
    x = features.x
    root = jnp.ones(x.shape[1], x.dtype) if gene_weights is None else safe_sqrt(gene_weights)
    return x * root[None], root


def slot_bytes(features: Features) -> int:
    """Bytes of one neighbour's displacement."""
    return _bytes_of_row(features.x)


def _bytes_of_row(x: Array) -> int:
    return x.shape[1] * x.dtype.itemsize
