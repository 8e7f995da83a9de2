"""Settings of the AnnData-facing part, and its log lines."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("jaxvelo")


class _Formatter(logging.Formatter):
    """Information as plain text, everything else with its level in front, as CellRank prints."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno == logging.INFO else f"{record.levelname}: {message}"


class Settings:
    """Settings that hold for the whole process.

    Attributes
    ----------
    verbosity
        What is logged: ``"error"``, ``"warning"``, ``"info"`` (default) or ``"debug"``, or the numbers 0 to 3.
    """

    _levels = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    _names = ("error", "warning", "info", "debug")

    def __init__(self) -> None:
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(_Formatter())
            logger.addHandler(handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)

    @property
    def verbosity(self) -> str:
        """Name of the current level."""
        level = logger.getEffectiveLevel()
        return self._names[max((i for i, known in enumerate(self._levels) if known >= level), default=0)]

    @verbosity.setter
    def verbosity(self, value: str | int) -> None:
        if value in self._names:
            index = self._names.index(value)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self._levels):
            index = value
        else:
            raise ValueError(f"Expected `verbosity` to be one of {self._names} or 0 to 3, found `{value!r}`.")
        logger.setLevel(self._levels[index])


settings = Settings()


@contextlib.contextmanager
def timed(message: str, finish: str = "    Finish") -> Iterator[None]:
    """Log ``message``, run the block, log ``finish`` with the time that the block took."""
    logger.info(message)
    start = time.perf_counter()
    yield
    logger.info("%s (%s)", finish, format_seconds(time.perf_counter() - start))


def format_seconds(seconds: float) -> str:
    """Format a duration as ``h:mm:ss``, with hundredths below a minute (most steps take less than a second)."""
    if round(seconds, 2) < 60:
        return f"0:00:{seconds:05.2f}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def ignore_arguments(**arguments: Any) -> None:
    """Say in the debug log which arguments of CellRank are without effect here."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        logger.debug("Ignoring %s: everything runs in one compiled program", ", ".join(f"`{name}`" for name in given))
