"""Arguments of the command line, and what becomes of errors. Anything heavy is imported when it is needed."""

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import jaxvelo
from jaxvelo.cli._errors import BAD_INPUT, UNFORESEEN, StepError, described, is_foreseen, message_of
from jaxvelo.cli._interrupts import one_interrupt
from jaxvelo.configuration import LogHandler, format_seconds, logger, settings

_RUN_DESCRIPTION = """\
Compute a transition matrix from the RNA velocity and the similarity of the cells in FILE, from it terminal states, the
probabilities of the cells to end there and the genes that go with these, and draw all that.

Without velocities, cells go along a time: that of --time-key, a pseudotime or days; or, where FILE holds neither
velocities nor unspliced counts, the pseudotime of CytoTRACE. Expression is then X, which is normalised and
logarithmised unless it looks as if it were; cells of days are coupled by optimal transport. Genes are fitted along that
time towards each fate, in trends.csv and in pictures.

What FILE holds is used as it is, and what it lacks is computed:
  velocities        layers[--vkey], with their expression in layers[--xkey]; else from the moments
  moments           layers Ms and Mu; else from the spliced and unspliced counts, of genes with at least 20 shared
                    counts, in cells of equal size; counts that look normalised are taken as they are
  dynamical fit     var fit_alpha and so on, if its moments are there too; else fitted
  neighbours        obsp connectivities; else 30, in up to 30 principal components
  components        obsm X_pca; else of the highly variable genes
  variable genes    var highly_variable, if genes are chosen; else the 2000 most variable
  embedding         obsm X_BASIS; else, for `umap`, a UMAP of the neighbours
  latent time       obs latent_time, and root cells for it obs root_cells; else computed, with a dynamical model

An option that says how something is computed has it computed, with what comes from it: --normalize,
--min-shared-counts and --n-top-genes the moments, --velocity-mode the velocities, --n-neighbors, --n-pcs and --use-rep
the neighbours; --recompute has anything computed. New moments bring new fits and velocities, new velocities a new
latent time; velocities and moments stay as they are when only neighbours are new. What is used but does not fit the
cells is an error. The transition matrix is always computed, and its macrostates, terminal states and fates. FILE is
never changed: all results are in kernel.h5ad. What was done, what to look at and what to doubt is in summary.md, with
a paragraph for a methods section and its references."""

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
    Exit status: 0; 2 after an error in the arguments or in the data, 1 after one that nobody has foreseen, 130 after
    an interrupt. An error is told in one line on the standard error stream.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as finished:  # help, version, or an error that has been told
        return int(finished.code or 0)
    start = time.perf_counter()
    written: list[Path] = []
    with one_interrupt(), _log_on(sys.stdout, arguments.verbosity):
        try:
            _run(arguments, written)
        except KeyboardInterrupt:
            sys.stderr.write(f"jaxvelo {arguments.command}: interrupted.{_so_far(written)}\n")
            return 130
        except Exception as error:
            return _report_error(error, arguments, written)
    sys.stdout.write(f"\nDone in {format_seconds(time.perf_counter() - start)}. Written:\n")
    sys.stdout.writelines(f"  {path}\n" for path in written)
    return 0


def _report_error(error: Exception, arguments: argparse.Namespace, written: list[Path]) -> int:
    """Tell an error in one line; the exit status says whether the input is to blame."""
    if arguments.verbosity == "debug":
        logger.exception("This is where it happened:")
    if is_foreseen(error):
        message = message_of(error)
    else:
        message = message_of(error) if isinstance(error, StepError) else f"Failed with {described(error)}"
        if arguments.verbosity != "debug":
            message += " No check has foreseen this; --verbose shows where it happened."
    sys.stderr.write(f"jaxvelo {arguments.command}: error: {message}{_so_far(written)}\n")
    return BAD_INPUT if is_foreseen(error) else UNFORESEEN


def _so_far(written: list[Path]) -> str:
    """Name the files that were written before the end."""
    return f" Written before: {', '.join(f'`{path}`' for path in written)}." if written else ""


def _run(arguments: argparse.Namespace, written: list[Path]) -> None:
    """Do what is asked for, and add the files that were written to a list."""
    options = {k: v for k, v in vars(arguments).items() if k not in ("command", "verbosity")}
    with warnings.catch_warnings():
        # What other libraries will change in the future is no news for the reader of this report, and names that are
        # not unique are made so, with a word about it.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
        # These import JAX, AnnData and pandas, which `--help` does without; none of them imports this file.
        if arguments.command == "demo":
            from jaxvelo.cli._demo import demo

            demo(**options, written=written)
            return
        from jaxvelo.cli._plan import Options
        from jaxvelo.cli._run import run

        run(Options(**{**options, "recompute": tuple(options["recompute"])}), written)


@contextlib.contextmanager
def _log_on(stream, verbosity: str) -> Iterator[None]:
    """Log on the stream of the report, so that both stay in order."""
    known = settings.verbosity
    handlers = [handler for handler in logger.handlers if isinstance(handler, LogHandler)]
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
        prog="jaxvelo", description="RNA velocity to cell-cell transition matrices, fates and pictures of them, in JAX."
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
    run.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="data as h5ad, zarr (folder or .zarr.zip) or loom: raw counts, or with velocities or times",
    )
    data = run.add_argument_group("what is in FILE")
    data.add_argument(
        "--cluster-key",
        metavar="KEY",
        help="column of obs with the clusters (default: guessed, by names such as clusters, cell_type or leiden, else "
        "the first of categories; never a column with one level, or with hardly fewer levels than cells)",
    )
    data.add_argument(
        "--time-key",
        metavar="KEY",
        help="column of obs with a time to go along in place of velocities: a pseudotime, as numbers, or days, as "
        "categories or few numbers",
    )
    data.add_argument(
        "--basis", help="embedding to draw in, X_BASIS in obsm (default: umap; that one is computed if it is not there)"
    )
    data.add_argument(
        "--vkey", default="velocity", metavar="KEY", help="layer of the velocities (default: %(default)s)"
    )
    data.add_argument(
        "--xkey", default="Ms", metavar="KEY", help="layer of the expression, or X (default: %(default)s)"
    )
    data.add_argument(
        "--neighbors-key",
        metavar="KEY",
        help="neighbours to use, by their name in uns or obsp (default: neighbors, else the only ones there)",
    )
    data.add_argument("--spliced", metavar="KEY", help="layer of the spliced counts, or X (default: spliced)")
    data.add_argument("--unspliced", metavar="KEY", help="layer of the unspliced counts, or X (default: unspliced)")
    anew = run.add_argument_group("what is computed, and how")
    anew.add_argument(
        "--recompute",
        action="append",
        default=[],
        choices=("neighbors", "moments", "velocity", "umap", "all"),
        help="compute this although FILE holds it; may be given several times",
    )
    anew.add_argument(
        "--normalize",
        choices=("auto", "yes", "no"),
        help="whether to bring the counts of all cells to the same size (default: auto, unless they look normalised)",
    )
    anew.add_argument(
        "--min-shared-counts",
        type=_not_negative,
        metavar="N",
        help="least number of counts of a gene, in cells with spliced and unspliced ones (default: 20)",
    )
    anew.add_argument("--n-top-genes", type=_count, metavar="N", help="number of highly variable genes (default: 2000)")
    anew.add_argument(
        "--use-rep", metavar="KEY", help="compute neighbours in this entry of obsm, or X (default: X_pca)"
    )
    anew.add_argument("--n-pcs", type=_count, metavar="N", help="number of principal components (default: 30)")
    anew.add_argument("--n-neighbors", type=_count, metavar="N", help="number of neighbours (default: 30)")
    anew.add_argument(
        "--velocity-mode",
        choices=("dynamical", "stochastic", "deterministic"),
        help="model of the velocities (default: dynamical; another one if fewer than 10 genes have a dynamical fit)",
    )
    kernel = run.add_argument_group("transition matrix")
    kernel.add_argument(
        "--weight",
        type=_weight,
        default=0.8,
        metavar="W",
        help="weight of velocity or time, above 0 and up to 1; similarity gets the rest (default: %(default)s)",
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
    kernel.add_argument(
        "--key",
        metavar="KEY",
        help="key in obsp of the result; what FILE holds there is replaced in kernel.h5ad (default: T_fwd or T_bwd)",
    )
    walks = run.add_argument_group("random walks")
    walks.add_argument("--start", metavar="CLUSTER", help="cluster where random walks start (default: any cell)")
    fates = run.add_argument_group("terminal states and fates")
    fates.add_argument(
        "--n-states",
        type=_count,
        metavar="N",
        help="number of macrostates, among which the stable ones are terminal (default: from the gap of the "
        "eigenvalues)",
    )
    fates.add_argument(
        "--no-fates", dest="fates", action="store_false", help="leave out macrostates, fates and trends of genes"
    )
    _add_common(run, default_out=None)
    return parser


def _add_common(parser: argparse.ArgumentParser, default_out: str | None) -> None:
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=Path,
        default=default_out and Path(default_out),
        metavar="DIR",
        help="folder for kernel.h5ad, the pictures and summary.md; files of the same names there are replaced "
        f"(default: {default_out or 'jaxvelo_ and the name of FILE'})",
    )
    output.add_argument("--seed", type=_seed, default=0, help="seed of all random numbers (default: %(default)s)")
    output.add_argument(
        "--report",
        action="store_true",
        help="write report.html too: summary.md with its pictures in one file, to be passed on",
    )
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


def _not_negative(text: str) -> int:
    return _number(text, int, lambda x: x >= 0, "a whole number of at least 0")


def _seed(text: str) -> int:
    return _number(text, int, lambda x: 0 <= x < 2**32, "a whole number from 0 to 4294967295")
