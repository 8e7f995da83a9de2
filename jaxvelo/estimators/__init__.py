"""From a kernel to macrostates, terminal states, fates and the genes behind them, with CellRank's names."""

from jaxvelo.annotated.lineage_priming import lineage_priming
from jaxvelo.estimators._fate_comparison import compare_fates
from jaxvelo.estimators._fate_gradient import FateGradient, fate_gradient
from jaxvelo.estimators._fate_uncertainty import FateUncertainty, fate_uncertainty
from jaxvelo.estimators._gpcca import GPCCA
from jaxvelo.estimators._lineage import Lineage
from jaxvelo.estimators._lineage_drivers import lineage_drivers
from jaxvelo.estimators._perturb_genes import perturb_genes

__all__ = [
    "GPCCA",
    "FateGradient",
    "FateUncertainty",
    "Lineage",
    "compare_fates",
    "fate_gradient",
    "fate_uncertainty",
    "lineage_drivers",
    "lineage_priming",
    "perturb_genes",
]
