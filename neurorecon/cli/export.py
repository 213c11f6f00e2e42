"""``neurorecon export``: write a store as a plain Zarr hierarchy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import (
    JsonOption,
    Output,
    QuietOption,
    SnapshotOption,
    StoreOption,
    VerboseOption,
    run_command,
)
from neurorecon.errors import InputError


def export(
    first: Annotated[str | None, typer.Argument(metavar="STORE", help="Same as --store.")] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="OUT", help="Required. Folder to write (NAME.zarr); it must not exist yet.")
    ] = None,
    store: StoreOption = None,
    snapshot: SnapshotOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export a store to a plain .zarr folder that xarray opens without neurorecon.

    Usage: neurorecon export STORE OUT, or neurorecon export --store STORE OUT.
    """

    def work(output: Output) -> None:
        from neurorecon.cli.common import choose, named_store
        from neurorecon.store.check import export_store

        # A single argument is the folder to write; the store is then that of --store, or the default one.
        named, out = (None, first) if second is None else (first, second)
        if out is None:
            raise InputError(
                "the folder to write is missing",
                given="no argument",
                expected="[STORE] OUT",
                todo="name a new folder, e.g. neurorecon export --store STORE NAME.zarr",
            )
        opened = choose(named_store(named, store), output, snapshot=snapshot)
        output.add_files([export_store(opened, Path(out), progress=output.progress)])

    run_command("export", as_json, quiet, verbose, work)
