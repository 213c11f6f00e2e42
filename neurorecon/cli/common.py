"""What all commands share: options, output, errors, and which store to use."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurorecon.errors import InputError, NeuroreconError, UnknownNameError

if TYPE_CHECKING:
    from neurorecon.analyses.results import Result
    from neurorecon.store.store import Store


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object for scripts on stdout, and nothing else.")
]

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars, no messages but errors.")]

VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more of what is being done.")]

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        help="The store (a folder NAME.icechunk or NAME.zarr, or a URL). Left out: the one that was built last in "
        "this folder, else the embedded simulated data set, which is built first.",
    ),
]

FormatOption = Annotated[
    str,
    typer.Option("--format", help="Formats of the figures, separated by commas: png, svg, pdf."),
]

NoFiguresOption = Annotated[bool, typer.Option("--no-figures", help="Write no figures.")]

#: Exit code of a command that was interrupted, as shells have it.
INTERRUPTED = 130

logger = logging.getLogger("neurorecon")


@dataclass
class Output:
    """What a command found; printed at its end as text or as one JSON object.

    Parameters
    ----------
    command : str
        Name of the command.
    as_json, quiet : bool
        How to print.
    hint : str, optional
        Added to an error message: which store was taken where none was named.
    """

    command: str
    as_json: bool = False
    quiet: bool = False
    store: str | None = None
    snapshot: str | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    hint: str | None = None

    def use(self, store: Store) -> Store:
        """Note which store the command works on."""
        self.store, self.snapshot = store.location, store.snapshot
        return store

    def say(self, text: str = "") -> None:
        """Add to the text that is printed where JSON was not asked for."""
        self.lines.append(text)

    def add(self, found: Result, store: Store) -> None:
        """Add the scores of a result, and the text that says what was found."""
        self.scores += [score.row() for score in found.scores]
        self.say(found.text(store))

    def add_files(self, paths: list[Path]) -> None:
        """Note files that were written."""
        self.files += [str(path) for path in paths]

    @property
    def progress(self) -> bool:
        """Whether to show progress bars."""
        return not self.quiet

    def emit(self) -> None:
        """Print what was found."""
        if self.as_json:
            found = {
                "command": self.command,
                "store": self.store,
                "snapshot": self.snapshot,
                "scores": self.scores,
                "files": self.files,
                **self.extra,
            }
            typer.echo(json.dumps(_finite(found), ensure_ascii=False, allow_nan=False))
            return
        for line in self.lines:
            typer.echo(line)
        if self.files and not self.quiet:
            typer.echo("\nwritten:")
            for path in self.files:
                typer.echo(f"  {path}")


def _finite(value: Any) -> Any:
    """Replace what JSON cannot say (NaN, infinities, numpy scalars)."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def formats_of(text: str) -> list[str]:
    """Return the formats that ``--format`` names; an unknown one shows before anything is computed."""
    from neurorecon.figures.style import FORMATS

    found = [part.strip() for part in text.split(",") if part.strip()]
    for name in found:
        if name not in FORMATS:
            raise UnknownNameError("figure format", name, FORMATS)
    return found


def run_command(command: str, as_json: bool, quiet: bool, verbose: bool, work: Callable[[Output], None]) -> None:
    """Run the work of a command; turn errors into one message and exit code 2.

    Parameters
    ----------
    command : str
        Name of the command.
    as_json, quiet, verbose : bool
        The common options.
    work : callable
        Given the :class:`Output` to fill.
    """
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING, force=True)
    logger.setLevel(level)
    output = Output(command, as_json=as_json, quiet=quiet)
    try:
        work(output)
        output.emit()
    except NeuroreconError as error:
        _fail(output, str(error) if output.hint is None else f"{error}\n  {output.hint}")
    except BrokenPipeError:
        raise  # who reads has read enough, as in `| head`: typer ends quietly
    except OSError as error:
        # A full disk, a folder without permission, a file in place of a folder: nothing that a traceback explains.
        logger.debug("", exc_info=True)
        _fail(output, str(_of_the_system(error)))
    except KeyboardInterrupt:
        typer.echo(
            "neurorecon: interrupted; what was committed is kept, the same command goes on from there",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def _of_the_system(error: OSError) -> InputError:
    return InputError(
        "the system refused to read or write a file",
        given=f"{error.filename or 'a file'} ({error.strerror or error})",
        expected="a place that can be read, and written where results go",
        todo="choose another place with --out, or fix this one; --verbose shows where it happened",
    )


def _fail(output: Output, message: str) -> None:
    typer.echo(f"neurorecon: error: {message}", err=True)
    if output.as_json:
        typer.echo(json.dumps({"command": output.command, "error": message}, ensure_ascii=False))
    raise typer.Exit(2)


#: Remembers, in the current folder, the store that ``neurorecon build`` made last.
CURRENT = Path(".neurorecon") / "store.json"

EMBEDDED = "scenes"


def remember(path: Path) -> None:
    """Make a store the one that commands in this folder use; where that cannot be written, only warn."""
    try:
        CURRENT.parent.mkdir(exist_ok=True)
        CURRENT.write_text(json.dumps({"store": str(path)}), encoding="utf-8")
    except OSError as error:  # the store itself is whole, perhaps after hours of building
        logger.warning(
            "this folder cannot keep which store was built last (%s: %s); name it: --store %s",
            CURRENT,
            error.strerror or error,
            path,
        )


def choose(location: str | None, output: Output) -> Store:
    """Open the named store, else the one built last in this folder, else the embedded one, which is built."""
    from neurorecon.store.store import open_store

    if location is not None:
        return output.use(open_store(location))
    current = _remembered()
    if current is not None:
        logger.info("store: %s (built last in this folder; --store chooses another)", current)
        output.hint = _hint(current)
        return output.use(open_store(current))
    from neurorecon.features.extract import build

    store = output.use(build(EMBEDDED, progress=output.progress))
    logger.info("store: %s (the embedded data set: SIMULATED responses; --store chooses another)", store.location)
    return store


def subjects_of(store: Store, wanted: list[str] | None) -> list[str]:
    """Return the subjects to analyze, each once; an unknown one shows before any is analyzed."""
    for name in wanted or []:
        if name not in store.subjects:
            raise UnknownNameError("subject", name, store.subjects)
    return list(dict.fromkeys(wanted or store.subjects))


def results_folder(out: Path | None, default: str) -> Path:
    """Return the folder for results, ``results/<default>`` where none is asked for; a file in its place shows early."""
    folder = out if out is not None else Path("results") / default
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "the results cannot go here",
            given=f"{folder}, which is a file",
            expected="a folder, or a name that is free",
            todo="choose another one with --out",
        )
    return folder


def _remembered() -> str | None:
    try:
        path = str(json.loads(CURRENT.read_text(encoding="utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if Path(path).exists() else None


def _hint(current: str) -> str:
    """Say which store was taken, and which others lie beside it."""
    others = sorted(str(path) for path in Path(current).parent.glob("*.icechunk") if path != Path(current))
    beside = f"; beside it: {', '.join(others)}" if others else ""
    return f"store:    {current}, the one built last in this folder{beside}. --store chooses another"
