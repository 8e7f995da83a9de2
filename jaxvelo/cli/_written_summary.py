"""The files that a run ends with: its summary, and a page of it if that is asked for."""

from __future__ import annotations

from pathlib import Path

from jaxvelo.annotated.whole_files import written_whole
from jaxvelo.cli._account import Account
from jaxvelo.cli._errors import reason
from jaxvelo.cli._html_page import html_page
from jaxvelo.cli._summary import summary
from jaxvelo.configuration import logger

SUMMARY, REPORT = "summary.md", "report.html"


def write_summary(account: Account, out: Path, written: list[Path]) -> None:
    """Write the files, and add them to a list; one that fails is a warning, as all results are written by now."""
    try:
        text = summary(account, [path for path in written if path.suffix == ".png"])
        _write(text, out / SUMMARY, written)
        if account.options.report:
            _write(html_page(text, out), out / REPORT, written)
    except Exception as error:
        logger.warning("Could not write the summary of the run: %s", reason(error))
        logger.debug("This is where it happened:", exc_info=error)


def _write(text: str, path: Path, written: list[Path]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    written.append(path)
