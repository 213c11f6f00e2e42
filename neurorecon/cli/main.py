"""The entry point: collects the commands. Nothing heavy is imported here, so that ``--help`` answers quickly."""

from __future__ import annotations

import atexit
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


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the reader of the pipe has closed it
            code = code or 120
    os._exit(code)
