"""``neurorecon export``: a plain Zarr hierarchy for any xarray user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command


def export(
    store: Annotated[str, typer.Argument(help="The store.")],
    out: Annotated[Path, typer.Argument(help="A new folder, NAME.zarr.")],
    snapshot: Annotated[str | None, typer.Option("--snapshot", help="Id of an older state.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export a store as a plain .zarr folder that xarray opens without neurorecon."""

    def work(output: Output) -> None:
        from neurorecon.store.check import export_store
        from neurorecon.store.store import open_store

        opened = output.use(open_store(store, snapshot=snapshot))
        output.add_files([export_store(opened, out, progress=output.progress)])

    run_command("export", as_json, quiet, verbose, work)
