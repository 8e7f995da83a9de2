"""Arguments of the command line, and what becomes of errors. Anything heavy is imported when it is needed."""

import argparse
import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import jaxvelo
from jaxvelo.configuration import format_seconds, logger, settings

_RUN_DESCRIPTION = """\
Compute a transition matrix from the RNA velocity and the similarity of the cells in FILE, and draw it.

Velocities and neighbours that FILE holds are used as they are. Otherwise they are computed from the spliced and
unspliced counts: genes with at least 20 shared counts, normalisation, 30 principal components, 30 neighbours,
moments, velocities and latent time of the dynamical model. FILE is never changed."""

_DEMO_DESCRIPTION = """\
Run the whole flow on simulated cells whose true velocities and fates are known, and tell how well they are found.
It needs no data and no network."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments; those of the process if ``None``.

    Returns
    -------
    Exit status: 0, or 2 after an error in the arguments or in the data, which is told in one line on the standard
    error stream.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as finished:  # help, version, or an error that has been told
        return int(finished.code or 0)
    start = time.perf_counter()
    with _log_on(sys.stdout, arguments.verbosity):
        try:
            written = _run(arguments)
        # The library checks all input, and these are what its checks raise.
        except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
            if arguments.verbosity == "debug":
                logger.exception("This is where it happened:")
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            sys.stderr.write(f"jaxvelo {arguments.command}: error: {' '.join(str(message).split())}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(f"jaxvelo {arguments.command}: interrupted\n")
            return 130
    sys.stdout.write(f"\nDone in {format_seconds(time.perf_counter() - start)}. Written:\n")
    sys.stdout.writelines(f"  {path}\n" for path in written)
    return 0


def _run(arguments: argparse.Namespace) -> list[Path]:
    """Do what is asked for and return the files that were written."""
    options = {k: v for k, v in vars(arguments).items() if k not in ("command", "verbosity")}
    with warnings.catch_warnings():
        # What other libraries will change in the future is no news for the reader of this report.
        warnings.simplefilter("ignore", FutureWarning)
        if arguments.command == "demo":
            from jaxvelo.cli._demo import demo

            return demo(**options)
        from jaxvelo.cli._run import run

        return run(**options)


@contextlib.contextmanager
def _log_on(stream, verbosity: str) -> Iterator[None]:
    """Log on the stream of the report, so that both stay in order."""
    known = settings.verbosity
    handlers = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
    streams = [handler.stream for handler in handlers]
    settings.verbosity = verbosity
    for handler in handlers:
        handler.setStream(stream)
    try:
        yield
    finally:
        settings.verbosity = known
        for handler, former in zip(handlers, streams, strict=True):
            handler.setStream(former)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxvelo", description="RNA velocity to cell-cell transition matrices and pictures of them, in JAX."
    )
    parser.add_argument("--version", action="version", version=f"jaxvelo {jaxvelo.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    raw = argparse.RawDescriptionHelpFormatter
    demo = commands.add_parser(
        "demo", help="the whole flow on simulated cells", description=_DEMO_DESCRIPTION, formatter_class=raw
    )
    _add_common(demo, default_out="jaxvelo_demo")

    run = commands.add_parser(
        "run", help="the whole flow on your data", description=_RUN_DESCRIPTION, formatter_class=raw
    )
    run.add_argument("file", type=Path, metavar="FILE", help="data in h5ad format: raw counts, or with velocities")
    data = run.add_argument_group("what is in FILE")
    data.add_argument(
        "--cluster-key",
        metavar="KEY",
        help="column of obs with the clusters (default: `clusters`, else the first column of categories)",
    )
    data.add_argument(
        "--basis",
        default="umap",
        help="embedding to draw in, X_BASIS in obsm (default: umap; computed if it is not there)",
    )
    data.add_argument(
        "--vkey", default="velocity", metavar="KEY", help="layer of the velocities (default: %(default)s)"
    )
    data.add_argument(
        "--xkey", default="Ms", metavar="KEY", help="layer of the expression, or X (default: %(default)s)"
    )
    data.add_argument(
        "--n-top-genes",
        type=_count,
        default=2000,
        metavar="N",
        help="number of highly variable genes, if velocities are computed (default: %(default)s)",
    )
    data.add_argument(
        "--velocity-mode",
        choices=("dynamical", "stochastic", "deterministic"),
        help="model of the velocities, if they are computed (default: dynamical; stochastic if fewer than 10 genes "
        "have a dynamical fit)",
    )
    kernel = run.add_argument_group("transition matrix")
    kernel.add_argument(
        "--weight",
        type=_weight,
        default=0.8,
        metavar="W",
        help="weight of velocity, above 0 and up to 1; similarity gets the rest (default: %(default)s)",
    )
    kernel.add_argument(
        "--model",
        choices=("deterministic", "stochastic", "monte_carlo"),
        default="deterministic",
        help="how the uncertainty of velocities is propagated (default: %(default)s)",
    )
    kernel.add_argument(
        "--similarity",
        choices=("correlation", "cosine", "dot_product"),
        default="correlation",
        help="of velocity and displacement (default: %(default)s)",
    )
    kernel.add_argument(
        "--softmax-scale", type=_positive, metavar="S", help="scale of the softmax (default: derived from the data)"
    )
    kernel.add_argument("--backward", action="store_true", help="run the process back in time")
    walks = run.add_argument_group("random walks")
    walks.add_argument("--start", metavar="CLUSTER", help="cluster where random walks start (default: any cell)")
    _add_common(run, default_out=None)
    return parser


def _add_common(parser: argparse.ArgumentParser, default_out: str | None) -> None:
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        default=default_out and Path(default_out),
        metavar="DIR",
        help=f"folder for kernel.h5ad and the pictures (default: {default_out or 'jaxvelo_ and the name of FILE'})",
    )
    output.add_argument("--seed", type=_seed, default=0, help="seed of all random numbers (default: %(default)s)")
    loudness = output.add_mutually_exclusive_group()
    loudness.add_argument(
        "--quiet", dest="verbosity", action="store_const", const="warning", default="info", help="only name the files"
    )
    loudness.add_argument(
        "--verbose", dest="verbosity", action="store_const", const="debug", help="tell more, also about errors"
    )


def _number(text: str, convert, is_valid, expected: str):
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not is_valid(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, found `{text}`")
    return value


def _weight(text: str) -> float:
    return _number(text, float, lambda x: 0 < x <= 1, "a number above 0 and up to 1")


def _positive(text: str) -> float:
    return _number(text, float, lambda x: 0 < x < float("inf"), "a positive number")


def _count(text: str) -> int:
    return _number(text, int, lambda x: x > 0, "a positive whole number")


def _seed(text: str) -> int:
    return _number(text, int, lambda x: 0 <= x < 2**32, "a whole number from 0 to 4294967295")
