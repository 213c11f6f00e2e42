"""``neurorecon export``: write a store as a plain Zarr hierarchy, or brain maps as a BIDS derivative."""

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
    bids: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULTS",
            help="Instead of a store, export the brain maps in this folder of results as a BIDS derivative: a file and "
            "a JSON sidecar for each map.",
        ),
    ] = None,
    snapshot: SnapshotOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export a store to a plain .zarr folder that xarray opens without neurorecon.

    Usage: neurorecon export STORE OUT, neurorecon export --store STORE OUT, or neurorecon export --bids RESULTS OUT.
    """

    def work(output: Output) -> None:
        if bids is not None:
            from neurorecon.analyses.bids_maps import export_maps

            if first is None or second is not None or store is not None or snapshot is not None:
                others = ", ".join(filter(None, (first, second, store, snapshot)))
                raise InputError(
                    "brain maps are exported from a folder of results, not from a store",
                    given=f"--bids {bids} with {others or 'nothing else'}",
                    expected="--bids RESULTS OUT",
                    todo="name a new folder, e.g. neurorecon export --bids results/maps_NAME OUT",
                )
            output.add_files(export_maps(bids, Path(first)))
            return
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
