"""``neurorecon weights``: list, locate, verify and download pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command

if TYPE_CHECKING:
    from neurorecon.hub import FileState, Item

weights = typer.Typer(
    help="List, locate, verify and download pretrained weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="DIR",
        help="Local folder that holds weights. Default: $NEURORECON_WEIGHTS, then the Hugging Face cache.",
    ),
]


@weights.command("list")
def list_weights(
    origin: Annotated[
        str | None, typer.Option("--origin", metavar="ORIGIN", help="bundled or published. Default: both.")
    ] = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List all weights: role, size, license, location on this machine, and the systems that need them."""

    def work(output: Output) -> None:
        from neurorecon.errors import UnknownNameError
        from neurorecon.hub import items, missing_from, search

        if origin not in (None, "bundled", "published"):
            raise UnknownNameError("origin of weights", origin, ("bundled", "published"))
        rows = []
        for entry in items("weights"):
            if origin in (None, entry.origin):
                place = search(entry.name, folder=folder)
                missing = [file.path for file in entry.files] if place is None else missing_from(entry, place)
                rows.append(_facts(entry) | {"place": place and str(place), "missing": missing})
        output.extra["weights"] = rows
        output.say(_row("name", "used as", "origin", "size", "license", "needed by", "on this machine"))
        for row in rows:
            systems = ", ".join(row["systems"])
            output.say(
                _row(row["name"], row["role"], row["origin"], _size(row), row["license"], systems, _whereabouts(row))
            )
        if not quiet and any(row["missing"] and row["origin"] == "published" for row in rows):
            output.say("\nneurorecon weights pull NAME downloads weights; for offline use see docs/weights.md")

    run_command("weights list", as_json, quiet, verbose, work)


@weights.command("where")
def where(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the weights, from `neurorecon weights list`.")],
    folder: FolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Print the folder that holds the files of some weights.

    The exit code is 2 if a file is missing.
    """

    def work(output: Output) -> None:
        from neurorecon.hub import find, locate

        place = locate(name, folder=folder)
        output.extra |= _facts(find(name, "weights")) | {"place": str(place)}
        output.say(str(place))

    run_command("weights where", as_json, quiet, verbose, work)


@weights.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names of weights. Default: all.")] = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare the files on this machine with their sha256.

    The exit code is 2 if a file is corrupt.
    """
    found: dict[str, list[FileState]] = {}

    def work(output: Output) -> None:
        from tqdm import tqdm

        from neurorecon.hub import find, items, search
        from neurorecon.hub import verify as check

        chosen = names or [item.name for item in items("weights")]
        for name in chosen:
            find(name, "weights")  # report a wrong name before the first long computation
        for name in tqdm(chosen, desc="verify", disable=quiet, leave=False):
            found[name] = check(name, folder=search(name, folder=folder))
        output.extra["checked"] = [_state(name, state) for name, states in found.items() for state in states]
        output.extra["corrupt"] = [row["place"] for row in output.extra["checked"] if row["state"] == "corrupt"]
        for name, states in found.items():
            for line in _summary(name, states, everything=verbose or bool(names)):
                output.say(line)

    run_command("weights verify", as_json, quiet, verbose, work)
    corrupt = [str(state.place) for states in found.values() for state in states if state.state == "corrupt"]
    if corrupt:
        typer.echo(
            f"neurorecon: error: {len(corrupt)} weight files are corrupt\n  given:    {', '.join(corrupt)}\n"
            "  expected: files with the sha256 of the catalog or the hub\n"
            "  to do:    delete them, and download published weights again: neurorecon weights pull NAME",
            err=True,
        )
        raise typer.Exit(2)


@weights.command("pull")
def pull(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Names of weights, from `neurorecon weights list`.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="Download into DIR/NAME. Default: $NEURORECON_WEIGHTS, then the Hugging Face cache.",
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download published weights.

    Weights that are already here are only verified. Interrupted downloads are resumed.
    """

    def work(output: Output) -> None:
        from neurorecon.hub import fetch, find

        for name in names:
            find(name, "weights")
        output.extra["weights"] = []
        for name in names:
            place = fetch(name, folder, progress=output.progress)
            output.extra["weights"].append({"name": name, "place": str(place)})
            output.say(f"{name}: {place}")

    run_command("weights pull", as_json, quiet, verbose, work)


def _row(name: str, role: str, origin: str, size: str, terms: str, systems: str, place: str) -> str:
    return f"{name:<24}{role:<16}{origin:<11}{size:>9}  {terms:<21}  {systems:<29}  {place}"


def _facts(entry: Item) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "role": entry.role,
        "origin": entry.origin,
        "bytes": entry.size,
        "about_bytes": entry.about,
        "license": entry.license,
        "systems": list(entry.systems),
        "repository": entry.repository,
        "url": entry.url,
        "source": entry.citation,
        "note": entry.note,
    }


def _state(name: str, state: FileState) -> dict[str, Any]:
    return {
        "weights": name,
        "file": state.path,
        "state": state.state,
        "detail": state.detail,
        "place": state.place and str(state.place),
    }


def _summary(name: str, states: list[FileState], everything: bool) -> list[str]:
    """Return one line for weights that are entirely absent, or else one line per file."""
    if all(state.state == "absent" for state in states) and not everything:
        return [f"{name:<24}absent"]
    return [f"{name:<24}{state.state:<8} {state.path}: {state.detail}" for state in states]


def _size(row: dict[str, Any]) -> str:
    if row["about_bytes"] is None:
        return "?"
    size = row["about_bytes"]
    text = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.{0 if size >= 1e7 else 1}f} MB"
    return text if row["bytes"] is not None else f"~{text}"


def _whereabouts(row: dict[str, Any]) -> str:
    if not row["missing"]:
        return str(row["place"])
    return "absent" if row["place"] is None else f"incomplete, {len(row['missing'])} files missing in {row['place']}"
