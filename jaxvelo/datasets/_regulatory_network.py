"""A random gene-regulatory network in which fates exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

MAX_REGULATORS = 4
# What an activated gene still does without its activators.
LEAK = 0.02


@dataclass(frozen=True)
class RegulatoryNetwork:
    r"""Genes, of which the first ones are transcription factors, and what regulates each.

    With the level :math:`y_r` of regulator :math:`r` (its protein, as a share of what the gene makes at full
    transcription), the share of its full transcription at which gene :math:`g` is transcribed is

    .. math::
        f_g(y) = \Big(1 - (1 - b_g) \prod_{r \in A_g} \frac{1}{1 + (y_r / K_{gr})^{n_{gr}}}\Big)
        \prod_{r \in R_g} \frac{1}{1 + (y_r / K_{gr})^{n_{gr}}}:

    any of the activators :math:`A_g` is enough, and any of the repressors :math:`R_g`. Regulator 0 is a signal from
    outside, regulator :math:`i` the transcription factor :math:`i - 1`.

    Attributes
    ----------
    factors
        Names of the transcription factors.
    deciding
        Numbers of the factors that decide between the fates, in the order of the fates.
    regulator
        Regulators of each gene; 0 where ``sign`` is 0.
    sign
        1 for activators, -1 for repressors, 0 for none.
    threshold, steepness
        :math:`K` and :math:`n`.
    basal
        :math:`b`: 1 for genes without activators.
    """

    factors: tuple[str, ...]
    deciding: tuple[int, ...]
    regulator: Int[np.ndarray, "genes regulators"]
    sign: Int[np.ndarray, "genes regulators"]
    threshold: Float[np.ndarray, "genes regulators"]
    steepness: Float[np.ndarray, "genes regulators"]
    basal: Float[np.ndarray, " genes"]

    def activity(self, level: Float[np.ndarray, "simulations regulators"]) -> Float[np.ndarray, "simulations genes"]:
        """Give the share of its full transcription at which each gene is transcribed."""
        wired = self.sign != 0
        bound = (level[:, self.regulator[wired]] / self.threshold[wired]) ** self.steepness[wired]
        free = np.ones((len(level), *wired.shape))
        free[:, wired] = 1.0 / (1.0 + bound)
        without_activators = np.prod(np.where(self.sign > 0, free, 1.0), axis=-1)
        without_repressors = np.prod(np.where(self.sign < 0, free, 1.0), axis=-1)
        return (1.0 - (1.0 - self.basal) * without_activators) * without_repressors


def regulatory_network(rng: np.random.Generator, n_genes: int, n_fates: int) -> RegulatoryNetwork:
    """Draw a network: a backbone of transcription factors that is wired by hand, and targets that are wired at random.

    Factors that keep themselves on make the start. A signal starts a cascade, which represses them, and whose end
    activates one deciding factor for each fate. These keep themselves on and repress each other, so that one of them
    wins; each activates a cascade of its own, the end of which switches the first cascade off.

    Parameters
    ----------
    rng
        Source of all thresholds, steepnesses and targets.
    n_genes
        Number of genes, at least ``n_factors(n_fates)``.
    n_fates
        Number of fates, at most 3.
    """
    # Names of the regulators of each factor: activators, repressors.
    fates = "ABC"[:n_fates]
    backbone: dict[str, tuple[list[str], list[str]]] = {
        "start 1": (["start 1"], ["trunk 2"]),
        "start 2": (["start 1", "start 2"], ["trunk 3"]),
        "trunk 1": (["signal"], ["trunk 3"]),
        "trunk 2": (["trunk 1"], [f"late {fate}" for fate in fates]),
        "trunk 3": (["trunk 2"], []),
    }
    for fate in fates:
        others = [f"deciding {other}" for other in fates if other != fate]
        backbone |= {
            f"deciding {fate}": (["trunk 3", f"deciding {fate}"], others),
            f"middle {fate}": ([f"deciding {fate}"], []),
            f"late {fate}": ([f"middle {fate}"], []),
        }
    factors = tuple(backbone)
    number = {name: i for i, name in enumerate(("signal", *factors))}

    sign = np.zeros((n_genes, MAX_REGULATORS), dtype=int)
    regulator = np.zeros_like(sign)
    threshold = np.exp(rng.uniform(np.log(0.15), np.log(0.6), sign.shape))
    steepness = rng.uniform(1.0, 3.0, sign.shape)

    def wire(gene: int, activators: Sequence[int], repressors: Sequence[int]) -> None:
        n = len(activators) + len(repressors)
        regulator[gene, :n] = [*activators, *repressors]
        sign[gene, :n] = [1] * len(activators) + [-1] * len(repressors)

    for gene, (activators, repressors) in enumerate(backbone.values()):
        wire(gene, [number[name] for name in activators], [number[name] for name in repressors])
    n_backbone = len(factors)
    # The backbone works for any draw from this narrower range.
    threshold[:n_backbone] = np.exp(rng.uniform(np.log(0.25), np.log(0.4), (n_backbone, MAX_REGULATORS)))
    steepness[:n_backbone] = rng.uniform(2.0, 3.0, (n_backbone, MAX_REGULATORS))
    deciding = tuple(number[f"deciding {fate}"] - 1 for fate in fates)
    # Every fate has the same chance, and repression is strong enough that they do not stay together: each of three is
    # repressed by two, and so at a lower level when it has to decide.
    represses = sign[list(deciding)] < 0
    threshold[list(deciding)] = np.where(represses, 0.2 if n_fates < 3 else 0.12, 0.3)
    steepness[list(deciding)] = np.where(represses, 4.0 if n_fates < 3 else 6.0, 3.0)

    for gene in range(n_backbone, n_genes):
        n = rng.choice(MAX_REGULATORS, p=(0.1, 0.3, 0.35, 0.25))  # some are always on
        chosen = 1 + rng.choice(n_backbone, n, replace=False)
        activates = rng.uniform(size=n) < 0.7
        wire(gene, chosen[activates].tolist(), chosen[~activates].tolist())
    basal = np.where((sign > 0).any(axis=1), LEAK, 1.0)
    return RegulatoryNetwork(factors, deciding, regulator, sign, threshold, steepness, basal)


def backbone_of(network: RegulatoryNetwork) -> RegulatoryNetwork:
    """Give the network without its targets, which regulate nothing."""
    n = len(network.factors)
    wires = (network.regulator, network.sign, network.threshold, network.steepness, network.basal)
    return RegulatoryNetwork(network.factors, network.deciding, *(x[:n] for x in wires))


def n_factors(n_fates: int) -> int:
    """Give the number of transcription factors of a network."""
    return 5 + 3 * n_fates
