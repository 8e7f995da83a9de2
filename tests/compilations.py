"""How often something is compiled."""

import logging

import jax
import pytest


class _Counter(logging.Handler):
    def __init__(self):
        super().__init__()
        self.programs = []

    def emit(self, record):
        if record.getMessage().startswith("Finished XLA compilation"):
            self.programs.append(record.getMessage())


@pytest.fixture
def compilations():
    """List of the programs that are compiled."""
    counter = _Counter()
    logger, others = logging.getLogger("jax._src.dispatch"), logging.getLogger("jax")
    logger.addHandler(counter)
    propagate = others.propagate
    others.propagate = False
    # Not the context manager: it holds for one thread only.
    jax.config.update("jax_log_compiles", True)
    try:
        yield counter.programs
    finally:
        jax.config.update("jax_log_compiles", False)
        logger.removeHandler(counter)
        others.propagate = propagate
