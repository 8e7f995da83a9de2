"""The command line: ``jaxvelo demo`` and ``jaxvelo run FILE.h5ad``."""

from jaxvelo.cli._command import main

__all__ = ["main"]
