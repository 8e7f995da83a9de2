"""What is shown in a terminal."""

import contextlib
import io
from collections.abc import Callable
from unittest import mock

from jaxvelo.annotated import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown_in_terminal(function: Callable[[], object]) -> str:
    """What a function writes to the error stream if that is a terminal, bars at once."""
    with contextlib.redirect_stderr(Terminal()) as stream, mock.patch.object(progress_bar, "DELAY", 0):
        function()
    return stream.getvalue()
