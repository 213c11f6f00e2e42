"""The entry point: collects the commands. Nothing heavy is imported here, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys

import typer

from neurorecon import __version__
from neurorecon.cli.build import build
from neurorecon.cli.check import check
from neurorecon.cli.classify import classify
from neurorecon.cli.common import INTERRUPTED
from neurorecon.cli.datasets import datasets
from neurorecon.cli.demo import demo
from neurorecon.cli.export import export
from neurorecon.cli.features import features
from neurorecon.cli.info import info
from neurorecon.cli.maps import maps
from neurorecon.cli.reconstruct import reconstruct
from neurorecon.cli.weights import weights

app = typer.Typer(
    name="neurorecon",
    help="Voxel-wise maps, decoders and reconstructions from fMRI of people looking at pictures and films.",
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
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


for command in (build, info, check, export, features, maps, classify, reconstruct, demo):
    app.command()(command)
app.add_typer(datasets, name="datasets")
app.add_typer(weights, name="weights")


def run() -> None:
    """Run the command line."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # Zarr reads and writes in threads of its own; those that were cut short would print their tracebacks.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise
