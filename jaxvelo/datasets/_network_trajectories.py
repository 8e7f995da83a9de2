"""Molecules of cells whose genes regulate each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxvelo.datasets._regulatory_network import RegulatoryNetwork
from jaxvelo.dynamics import splicing_solution

# Hours: of a step, from the signal to its full strength (e-fold), and before the signal.
STEP, SIGNAL_TIME, BURN_IN = 0.5, 20.0, 300.0


@dataclass(frozen=True)
class Kinetics:
    """Rates of all genes, per hour.

    Attributes
    ----------
    alpha
        Full transcription, molecules per hour.
    beta, gamma
        Splicing and degradation.
    delta
        Degradation of the transcription factors' proteins.
    """

    alpha: Float[np.ndarray, " genes"]
    beta: Float[np.ndarray, " genes"]
    gamma: Float[np.ndarray, " genes"]
    delta: Float[np.ndarray, " factors"]


class NetworkState(NamedTuple):
    """State of all simulations at one time.

    Attributes
    ----------
    unspliced, spliced
        Molecules.
    mean_unspliced, mean_spliced
        Their expectation, given all transcription rates that the simulation has gone through.
    protein
        Of the transcription factors, as a share of what they make at full transcription.
    """

    unspliced: Float[np.ndarray, "simulations genes"]
    spliced: Float[np.ndarray, "simulations genes"]
    mean_unspliced: Float[np.ndarray, "simulations genes"]
    mean_spliced: Float[np.ndarray, "simulations genes"]
    protein: Float[np.ndarray, "simulations factors"]


def signal(time: Float[np.ndarray, " simulations"] | float) -> Float[np.ndarray, " simulations"]:
    """Give the strength of the signal at some hours."""
    return 1.0 - np.exp(-np.asarray(time) / SIGNAL_TIME)


def levels(
    protein: Float[np.ndarray, "simulations factors"], strength: Float[np.ndarray, " simulations"]
) -> Float[np.ndarray, "simulations regulators"]:
    """Put the signal before the proteins."""
    return np.concatenate([np.broadcast_to(strength, len(protein))[:, None], protein], axis=1)


def network_trajectories(
    rng: np.random.Generator | None, network: RegulatoryNetwork, kinetics: Kinetics, n_simulations: int, n_steps: int
) -> Iterator[NetworkState]:
    r"""Simulate cells, and give their state at the times 0, ``STEP``, 2 ``STEP``, ...

    .. math::
        \emptyset \xrightarrow{\alpha_g f_g(y)} u_g \xrightarrow{\beta_g} s_g \xrightarrow{\gamma_g} \emptyset,
        \qquad \dot y_g = \delta_g \Big(\frac{\gamma_g}{\alpha_g} s_g - y_g\Big)

    Within a step, transcription rates stay as they are in its middle, as far as the spliced molecules at its start
    tell. Given these rates, molecules are independent of each other, and their numbers at the end of the step are drawn
    exactly: those that were there stay, are spliced or are degraded (multinomial), new ones are Poisson. So they are
    whole and never negative. At time 0 they are Poisson around a steady state without the signal.

    Parameters
    ----------
    rng
        Source of the noise; without, the numbers are replaced by their expectation.
    network, kinetics
        What is simulated.
    n_simulations
        Number of independent cells.
    n_steps
        Number of states.
    """
    alpha, beta, gamma = kinetics.alpha, kinetics.beta, kinetics.gamma
    full, n_backbone = alpha / gamma, len(network.factors)

    def after(u: np.ndarray, s: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return splicing_solution(STEP, u, s, rate, beta, gamma, xp=np)

    zero, one = np.zeros_like(alpha), np.ones_like(alpha)
    # What becomes within a step of one unspliced molecule, one spliced one, and of transcription of one per hour.
    stays, is_spliced = after(one, zero, zero)
    _, survives = after(zero, one, zero)
    new_unspliced, new_spliced = after(zero, zero, one)
    share_spliced = is_spliced / (1.0 - stays)

    def proteins(protein: np.ndarray, spliced: np.ndarray, time: float) -> np.ndarray:
        kept = np.exp(-kinetics.delta * time)
        return kept * protein + (1.0 - kept) * spliced[:, :n_backbone] / full[:n_backbone]

    def transcription(protein: np.ndarray, spliced: np.ndarray, strength: np.ndarray) -> np.ndarray:
        return alpha * network.activity(levels(proteins(protein, spliced, 0.5 * STEP), strength))

    # The start: without a signal, and with the factors of the start alone.
    protein = np.array([[float(name.startswith("start")) for name in network.factors]])
    mean_u, mean_s = zero[None], np.concatenate([protein[0], np.zeros(len(alpha) - n_backbone)])[None] * full
    for _ in range(round(BURN_IN / STEP)):
        before = mean_s
        mean_u, mean_s = after(mean_u, mean_s, transcription(protein, mean_s, np.zeros(1)))
        protein = proteins(protein, 0.5 * (before + mean_s), STEP)

    mean_u, mean_s, protein = (np.repeat(x, n_simulations, axis=0) for x in (mean_u, mean_s, protein))
    u, s = (mean_u, mean_s) if rng is None else (rng.poisson(mean_u), rng.poisson(mean_s))
    for step in range(n_steps):
        yield NetworkState(u, s, mean_u, mean_s, protein)
        rate, before = transcription(protein, s, signal((step + 0.5) * STEP)), s
        mean_u, mean_s = after(mean_u, mean_s, rate)
        if rng is None:
            u, s = mean_u, mean_s
        else:
            left = rng.binomial(u, stays)
            arrived = rng.binomial(u - left, share_spliced)
            u = left + rng.poisson(new_unspliced * rate)
            s = rng.binomial(s, survives) + arrived + rng.poisson(new_spliced * rate)
        protein = proteins(protein, 0.5 * (before + s), STEP)
