"""Molecules of a gene that is switched on and off, at any time."""

import numpy as np
from jaxtyping import Float

from jaxvelo.dynamics import splicing_solution


def splicing_state(
    time: Float[np.ndarray, "*#shape"],
    alpha: Float[np.ndarray, "*#shape"],
    beta: Float[np.ndarray, "*#shape"],
    gamma: Float[np.ndarray, "*#shape"],
    on: Float[np.ndarray, "*#shape"],
    off: Float[np.ndarray, "*#shape"],
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    r"""Give unspliced and spliced molecules of genes that are on from ``on`` to ``off``, at ``time``.

    A gene is empty before it is switched on; one that was always on (``on`` = -∞) is at its steady state
    :math:`(\alpha/\beta, \alpha/\gamma)`. From one switch to the next it follows
    :func:`jaxvelo.dynamics.splicing_solution`.

    All arguments broadcast against each other. Times in hours, rates per hour.

    Parameters
    ----------
    time
        When, in hours.
    alpha
        Transcription rate while the gene is on, molecules per hour.
    beta, gamma
        Rates of splicing and degradation, per hour.
    on, off
        When the gene is switched on and off, in hours; infinite where it never is.

    Returns
    -------
    u, s
        Unspliced and spliced molecules, of the shape that the arguments have together.

    Examples
    --------
    >>> hours = np.array([0.0, 5.0, 40.0])
    >>> u, s = jv.datasets.splicing_state(hours, alpha=1.0, beta=1.0, gamma=0.5, on=-np.inf, off=2.0)
    >>> u.round(2), s.round(2)
    (array([1.  , 0.05, 0.  ]), array([2.  , 0.79, 0.  ]))
    """
    always = np.isneginf(on)
    # A gene that was always on is one that starts at the steady state: any finite start gives the same.
    begin = np.where(always, 0.0, np.where(np.isfinite(on), on, 0.0))
    u0, s0 = np.where(always, alpha / beta, 0.0), np.where(always, alpha / gamma, 0.0)
    end = np.minimum(time, off)
    transcribed = np.where(on < end, alpha, 0.0)
    u1, s1 = splicing_solution(np.maximum(end - begin, 0.0), u0, s0, transcribed, beta, gamma, xp=np)
    u1, s1 = np.where(on < time, u1, 0.0), np.where(on < time, s1, 0.0)
    silent = np.maximum(time - np.where(np.isfinite(off), off, time), 0.0)
    return splicing_solution(silent, u1, s1, 0.0, beta, gamma, xp=np)
