"""The entry point: collects the commands. Nothing heavy is imported here, so that ``--help`` answers quickly."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, get_type_hints

import typer
from typer.models import OptionInfo

from neurorecon import __version__
from neurorecon.cli.ablate import ablate
from neurorecon.cli.audit import audit, shuffle
from neurorecon.cli.build import build
from neurorecon.cli.check import check
from neurorecon.cli.classify import classify
from neurorecon.cli.common import INTERRUPTED
from neurorecon.cli.compare import compare
from neurorecon.cli.datasets import datasets
from neurorecon.cli.demo import demo
from neurorecon.cli.evaluate import evaluate
from neurorecon.cli.export import export
from neurorecon.cli.features import features
from neurorecon.cli.finetune import finetune
from neurorecon.cli.info import info
from neurorecon.cli.maps import maps
from neurorecon.cli.plan import plan
from neurorecon.cli.reconstruct import fit, reconstruct
from neurorecon.cli.roi_optimal import roi_optimal
from neurorecon.cli.split import split
from neurorecon.cli.systems import systems
from neurorecon.cli.weights import weights
from neurorecon.errors import InputError

app = typer.Typer(
    name="neurorecon",
    help="Voxel-wise maps, decoding and reconstruction from fMRI of people looking at images and videos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"neurorecon {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


#: Largest whole number of an option: what libraries in C take. Analyses have narrower limits of their own.
LARGEST = 2**31 - 1

_CHECKED_LATER = ("permutations", "seed")


def with_metavars(command: Callable[..., None]) -> Callable[..., None]:
    """Let the help show what the value of each option stands for (``--roi ROI``), not its type (``<list[str]>``)."""
    hints = get_type_hints(command, include_extras=True)
    for name, hint in hints.items():
        kind = str(getattr(hint, "__origin__", hint))
        for option in getattr(hint, "__metadata__", ()):
            if isinstance(option, OptionInfo) and option.metavar is None and "bool" not in kind:
                marks = {"int": "N", "float": "X", "Path": "PATH"}
                option.metavar = next((mark for part, mark in marks.items() if part in kind), None)
                option.metavar = option.metavar or {"cross_validate": "COLUMN"}.get(name, name.upper())
            if isinstance(option, OptionInfo) and "int" in kind and option.max is None and name not in _CHECKED_LATER:
                option.max = LARGEST
    command.__annotations__ = hints
    return command


for command in (
    build, info, check, export, features, split, maps, classify, systems, fit, finetune, reconstruct, evaluate, compare,
    audit, shuffle, roi_optimal, ablate, plan, demo,
):  # fmt: skip
    app.command(command.__name__.replace("_", "-"))(with_metavars(command))
app.add_typer(datasets, name="datasets")
app.add_typer(weights, name="weights")


def run() -> None:
    """Run the command line."""
    _occupy_closed_streams()
    _hush_libraries()
    try:
        app()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            # What Python does first at exit: join threads and worker processes, and run the atexit handlers.
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        # Zarr and Icechunk read and write in their own threads. Interrupted ones would print tracebacks, and an
        # Icechunk thread that asks for the GIL during Python's shutdown aborts the process.
        _leave(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)


def _occupy_closed_streams() -> None:
    """Give closed standard streams a place, and stop if the results would have nowhere to go.

    Where a shell closes a stream (``>&-``), the next file that is opened takes its number, and what a library prints
    would go into that file: a store, for instance.
    """
    closed = [number for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)) if stream is None]
    for number in closed:
        with contextlib.suppress(OSError):  # raised if the number is taken already
            while os.open(os.devnull, os.O_RDWR) < number:
                pass
    if 2 in closed:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if 1 in closed:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        error = InputError(
            "the standard output is closed",
            given=">&-, or a parent process that closed it",
            expected="a terminal, a file or a pipe, which the results are printed to",
            todo="leave >&- out; to drop the results, write them to /dev/null",
        )
        sys.stderr.write(f"neurorecon: error: {error}\n")
        _leave(2)


def _hush_libraries() -> None:
    """Let libraries print errors only; this also holds for the processes that a command starts.

    What a user should know is said by neurorecon's own warnings.
    """
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # the reader of the pipe has closed it, as in `| head`
            code = code or 120
        except (OSError, ValueError) as error:
            code = code or 2
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"neurorecon: error: the results cannot be printed ({error})\n")
                sys.stderr.flush()
    os._exit(code)
