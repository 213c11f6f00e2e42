"""``neurorecon export``: a store as plain Zarr, brain maps as BIDS, a store or a fit for the Hugging Face hub."""

from __future__ import annotations

import shlex
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
    hub: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a folder for the Hugging Face hub: the store with a data set card, or with --fit a fitted "
            "system with a model card. Nothing is uploaded.",
        ),
    ] = None,
    fit: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With --hub: the fitted system, as `neurorecon fit` wrote it.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS", help="With --fit: folder of `neurorecon reconstruct`; its scores are shown."),
    ] = None,
    permission: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="With --hub: by what permission you share data whose terms restrict it; the card shows this text.",
        ),
    ] = None,
    snapshot: SnapshotOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export a store to a plain .zarr folder that xarray opens without neurorecon.

    Usage: neurorecon export STORE OUT, neurorecon export --store STORE OUT, neurorecon export --bids RESULTS OUT,
    neurorecon export --hub DIR --store STORE, or neurorecon export --hub DIR --fit FOLDER.
    """

    def work(output: Output) -> None:
        _refuse_combinations(hub, fit, results, permission, bids, second)
        if hub is not None:
            _for_the_hub(output, hub, fit, results, permission, first, store, snapshot)
            return
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


def _refuse_combinations(
    hub: Path | None,
    fit: Path | None,
    results: Path | None,
    permission: str | None,
    bids: Path | None,
    out: str | None,
) -> None:
    """Refuse options that have no meaning together."""
    given = {"--fit": fit, "--results": results, "--permission": permission, "--bids": bids, "an OUT": out}
    named = ", ".join(name for name, value in given.items() if value is not None)
    if hub is None and (fit is not None or results is not None or permission is not None):
        raise InputError(
            "these options belong to --hub",
            given=named,
            expected="--hub DIR with them",
            todo="name the folder to write, e.g. neurorecon export --hub DIR --fit FOLDER",
        )
    if hub is not None and (bids is not None or out is not None or (results is not None and fit is None)):
        raise InputError(
            "options do not go together",
            given=f"--hub with {named}",
            expected="--hub DIR [STORE], or --hub DIR --fit FOLDER [--results RESULTS]",
            todo="leave the others out; the folder to write is DIR",
        )
    if permission is not None and not permission.strip():
        raise InputError(
            "the permission is empty",
            given=repr(permission),
            expected="by what permission you share the data, in words",
            todo="state it, e.g. --permission 'written consent of the authors of the data, 2026-11-30'",
        )


def _for_the_hub(
    output: Output,
    hub: Path,
    fit: Path | None,
    results: Path | None,
    permission: str | None,
    argument: str | None,
    option: str | None,
    snapshot: str | None,
) -> None:
    """Write a folder for the hub, and say how it is uploaded."""
    from neurorecon.analyses.cards import export_dataset, export_model
    from neurorecon.cli.common import choose, named_store

    named = named_store(argument, option)
    if fit is None:
        kind, opened = "dataset", choose(named, output, snapshot=snapshot)
        output.add_files(export_dataset(opened, hub, permission=permission, progress=output.progress))
    else:
        # The default store is not meant here: the manifest of a fit says what it was fitted to.
        kind, used = "model", None if named is None else choose(named, output, snapshot=snapshot)
        output.add_files(export_model(fit, hub, results=results, store=used, permission=permission))
    upload = ["hf", "upload", "USER/NAME", str(hub), ".", "--repo-type", kind]
    command = shlex.join(upload if permission is None else [*upload, "--private"])
    output.extra |= {"kind": kind, "card": str(hub / "README.md"), "upload": command}
    output.say(f"read and complete the card, {hub / 'README.md'}; then upload the folder: {command}")
