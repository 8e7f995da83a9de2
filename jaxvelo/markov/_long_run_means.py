"""The long run of a Markov chain, from its leading Schur form alone."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float

ALWAYS = 1e-9
"""Eigenvalues so near to one count as one: more than the error of those that are, of closed classes of few cells."""


class LongRunMeans:
    r"""Means of Schur vectors in the long run, :math:`\eta^\top T^\infty X = e_1^\top R^\infty`.

    As :math:`\eta^\top X = e_1^\top` and :math:`T X = X R`. The limit is that of means over time, so that periods do no
    harm: the projection P onto the eigenvalue one of R along the others. In an order in which this eigenvalue comes
    first, as many times as there are closed classes,

    .. math::
        R = \begin{pmatrix} 1 & R_{12} \\ 0 & R_{22} \end{pmatrix}, \qquad
        P = \begin{pmatrix} 1 & R_{12} (1 - R_{22})^{-1} \\ 0 & 0 \end{pmatrix},

    and its change is :math:`\dot P = P \dot R G + G \dot R P` with the group inverse G of :math:`1 - R` (Meyer 1975, SIAM
    Rev. 17:443; Campbell & Meyer 1979, chapter 8).

    The leading means are those of the leading part of R.

    Parameters
    ----------
    form
        Quasi-triangular R; its first column is that of the identity.
    """

    def __init__(self, form: Float[np.ndarray, "k k"]):
        k = len(form)
        ordered, rotation, ones = scipy.linalg.schur(form, sort=lambda real, imag: abs(real + 1j * imag - 1) <= ALWAYS)
        inverse = np.linalg.inv(np.eye(k - ones) - ordered[ones:, ones:])
        along = ordered[:ones, ones:] @ inverse
        projection, group_inverse = np.zeros((k, k)), np.zeros((k, k))
        projection[:ones, :ones], projection[:ones, ones:] = np.eye(ones), along
        group_inverse[:ones, ones:], group_inverse[ones:, ones:] = -along @ inverse, inverse
        self.projection = rotation @ projection @ rotation.T
        self.group_inverse = rotation @ group_inverse @ rotation.T

    @property
    def means(self) -> Float[np.ndarray, " k"]:
        """Mean of each vector."""
        return self.projection[0]

    def change(self, of_form: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
        """First-order change with the form."""
        p, g = self.projection, self.group_inverse
        return p[0] @ of_form @ g + g[0] @ of_form @ p

    def transposed(self, of_means: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
        """Transpose of :meth:`change`."""
        p, g = self.projection, self.group_inverse
        return np.outer(p[0], g @ of_means) + np.outer(g[0], p @ of_means)
