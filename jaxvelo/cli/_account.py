"""What a run has done, for the text that is written about it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from anndata import AnnData

from jaxvelo.annotated.stored_trends import Trends
from jaxvelo.cli._plan import Options, Plan
from jaxvelo.configuration import logger
from jaxvelo.estimators import GPCCA
from jaxvelo.kernels import KernelExpression


@dataclasses.dataclass(frozen=True)
class Account:
    """What a run was asked for, what it did, and what came of it.

    Attributes
    ----------
    source
        Where the cells come from, in words.
    shape
        Numbers of cells and genes before genes were left out.
    options, plan
        What was asked for, and what was computed.
    normalized
        Whether counts were brought to the same size in all cells.
    mode
        Model of the velocities, where these were computed; another one than the plan's if that could not be fitted.
    kernel, estimator, trends
        What was found; the latter two may be missing.
    basis, cluster_key, time_key
        Embedding, column of the clusters, and column of the time that cells go along, if there are any.
    warnings
        What the run warned of.
    """

    source: str
    shape: tuple[int, int]
    options: Options
    plan: Plan
    normalized: bool
    mode: str | None
    kernel: KernelExpression
    estimator: GPCCA | None
    trends: Trends | None
    basis: str
    cluster_key: str | None
    time_key: str | None
    warnings: list[str]

    @property
    def adata(self) -> AnnData:
        """The cells, with all results."""
        return self.kernel.adata


class _Collector(logging.Handler):
    """Keeps each warning once."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if text not in self._found:
            self._found.append(text)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Keep what is warned of within the block, in order and each once, besides showing it."""
    found: list[str] = []
    handler = _Collector(found)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
