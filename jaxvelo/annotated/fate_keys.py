"""Where macrostates, fates and what follows from them stand in AnnData: CellRank's keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FateKeys:
    """Keys of the results of one direction of the process.

    States are columns of ``obs`` with one category for each state, missing for all other cells. Beside the column stand
    ``obs[probabilities_of(key)]`` (how much a cell belongs to the state that it belongs to most),
    ``obsm[memberships_of(key)]`` (cells by states, in the order of the categories) and ``uns[colors_of(key)]``.

    Attributes
    ----------
    backward
        Whether the process runs backward in time; then terminal states are where it comes from.
    """

    backward: bool

    @property
    def direction(self) -> str:
        """``"bwd"`` or ``"fwd"``."""
        return "bwd" if self.backward else "fwd"

    @property
    def macrostates(self) -> str:
        """Of ``obs``: macrostate of the cells that stand for one."""
        return f"macrostates_{self.direction}"

    @property
    def terminal_states(self) -> str:
        """Of ``obs``: terminal state of the cells that stand for one."""
        return f"term_states_{self.direction}"

    @property
    def initial_states(self) -> str:
        """Of ``obs``: initial state of the cells that stand for one."""
        return f"init_states_{self.direction}"

    @property
    def fate_probabilities(self) -> str:
        """Of ``obsm``: cells by terminal states."""
        return f"lineages_{self.direction}"

    @property
    def absorption_times(self) -> str:
        """Of ``obsm``: a data frame, columns ``"<lineage>_mean"`` and perhaps ``"<lineage>_var"``."""
        return f"absorption_times_{self.direction}"

    @property
    def priming_degree(self) -> str:
        """Of ``obs``: how far a cell is committed."""
        return f"priming_degree_{self.direction}"

    @property
    def schur_vectors(self) -> str:
        """Of ``obsm``: real Schur vectors, cells by components."""
        return f"schur_vectors_{self.direction}"

    @property
    def schur_matrix(self) -> str:
        """Of ``uns``: real Schur matrix, components by components."""
        return f"schur_matrix_{self.direction}"

    @property
    def eigendecomposition(self) -> str:
        """Of ``uns``: a dictionary of eigenvalues (``"D"``), the eigengap and its parameters."""
        return f"eigendecomposition_{self.direction}"

    @property
    def coarse(self) -> str:
        """Of ``uns``: an AnnData object, X the coarse transition matrix, obs the coarse distributions."""
        return f"coarse_{self.direction}"

    @property
    def lineage_drivers(self) -> str:
        """Of ``varm``: a data frame, columns ``"<lineage>_corr"``, and so on: pval, qval, ci_low, ci_high."""
        return "initial_lineage_drivers" if self.backward else "terminal_lineage_drivers"

    @property
    def gene_perturbations(self) -> str:
        """Of ``uns``: what the velocity of each gene does to the fates: a data frame ``"table"``, and ``"params"``."""
        return f"gene_perturbations_{self.direction}"

    @property
    def perturbed_fates(self) -> str:
        """Of ``obsm``: a data frame, columns ``"<gene>_<lineage>"``: change of the fates with another velocity."""
        return f"perturbed_fates_{self.direction}"

    @property
    def tsi(self) -> str:
        """Of ``uns``: a data frame of how many known terminal states are among how many macrostates."""
        return f"tsi_{self.direction}"

    @property
    def parameters(self) -> str:
        """Of ``uns``: a dictionary of the parameters of each result, by the result's key."""
        return f"{self.direction}_estimator_params"


def probabilities_of(states: str) -> str:
    """Key in ``obs`` of the membership of cells in states."""
    return f"{states}_probs"


def memberships_of(states: str) -> str:
    """Key in ``obsm`` of the memberships of all cells in states."""
    return f"{states}_memberships"


def colors_of(states: str) -> str:
    """Key in ``uns`` of the colours of states."""
    return f"{states}_colors"
