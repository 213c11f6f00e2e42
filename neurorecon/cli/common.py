"""What all commands share: common options, output, error messages and the choice of the store."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurorecon.errors import InputError, NeuroreconError, NeuroreconWarning, UnknownNameError
from neurorecon.io.files import file_name, refuse_inside_store

if TYPE_CHECKING:
    from neurorecon.analyses.results import Result
    from neurorecon.store.store import Store


JsonOption = Annotated[bool, typer.Option("--json", help="Print a single JSON object to stdout, for scripts.")]

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only (with --json, the object too).")]

VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show detailed messages.")]

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        metavar="STORE",
        help="Store to use: a folder (NAME.icechunk or NAME.zarr) or a URL. Default: the store built last in this "
        "folder, or else the embedded simulated data set, which is built if necessary.",
    ),
]

FormatOption = Annotated[
    str,
    typer.Option("--format", metavar="NAMES", help="Formats of the figures, separated by commas: png, svg, pdf."),
]

NoFiguresOption = Annotated[bool, typer.Option("--no-figures", help="Write no figures.")]

StoreArgument = Annotated[str | None, typer.Argument(metavar="STORE", help="Same as --store.")]

SnapshotOption = Annotated[
    str | None,
    typer.Option("--snapshot", metavar="ID", help="Snapshot of the store to use. Default: the latest."),
]

SplitColumnOption = Annotated[
    str | None,
    typer.Option(
        "--split-column",
        metavar="NAME",
        help="Split column of the store to train and test by, e.g. tau; see `neurorecon split`. Default: the split "
        "that the store was built with.",
    ),
]

SplitColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split-column",
        metavar="NAME",
        help="Split column of the store to train and test by, e.g. tau; see `neurorecon split`. Default: the split "
        "that the store was built with, which is called built-in here. May be given several times: then one table "
        "shows all of them.",
    ),
]

#: Exit code of an interrupted command, by the convention of shells (128 + SIGINT).
INTERRUPTED = 130

#: Files that are listed after a command.
MOST_FILES = 40

logger = logging.getLogger("neurorecon")


@dataclass
class Output:
    """Results of a command, printed when it ends, as text or as one JSON object.

    Parameters
    ----------
    command : str
        Name of the command.
    as_json, quiet : bool
        How to print.
    store, snapshot, split_column : str, optional
        Location and snapshot id of the store, and the split column that it follows.
    scores : list of dict
        Scores with their nulls, for JSON.
    files : list of str
        Files that the command wrote.
    extra : dict
        Further entries of the JSON object.
    lines : list of str
        Lines of text.
    hint : str, optional
        Appended to an error message: which store was used when the user named none.
    keeps : list of Path
        Folders in which files of finished work appear, from which the same command resumes after an interruption.
    """

    command: str
    as_json: bool = False
    quiet: bool = False
    store: str | None = None
    snapshot: str | None = None
    split_column: str | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    hint: str | None = None
    keeps: list[Path] = field(default_factory=list)

    def use(self, store: Store) -> Store:
        """Record the store that the command works on, and return it."""
        self.store, self.snapshot, self.split_column = store.location, store.snapshot, store.split_column
        return store

    def say(self, text: str = "") -> None:
        """Add a line of text; it is printed unless JSON was requested."""
        self.lines.append(text)

    def add(self, found: Result, store: Store) -> None:
        """Add the scores of a result, and the text that says what was found."""
        self.scores += [score.row() for score in found.scores]
        self.say(found.text(store))
        for further in found.beside():
            self.say(f"\n{further.text(store)}")

    def add_files(self, paths: list[Path]) -> None:
        """Record files that were written."""
        self.files += [str(path) for path in paths]

    @property
    def progress(self) -> bool:
        """Whether to show progress bars."""
        return not self.quiet

    def emit(self) -> None:
        """Print the results."""
        if self.as_json:
            found = {
                "command": self.command,
                "store": self.store,
                "snapshot": self.snapshot,
                "scores": self.scores,
                "files": self.files,
                **({} if self.split_column is None else {"split_column": self.split_column}),
                **self.extra,
            }
            typer.echo(json.dumps(_finite(found), ensure_ascii=False, allow_nan=False))
            return
        if self.quiet:
            return
        for line in self.lines:
            typer.echo(line)
        if self.files:
            typer.echo("\nfiles written:")
            for path in self.files[:MOST_FILES]:
                typer.echo(f"  {path}")
            if len(self.files) > MOST_FILES:
                typer.echo(f"  ... ({len(self.files) - MOST_FILES:,} more; --json lists all)")


def _finite(value: Any) -> Any:
    """Replace what JSON cannot represent: NaN, infinities, numpy scalars."""
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
    """Run a command, and turn errors into one message and exit code 2.

    Parameters
    ----------
    command : str
        Name of the command.
    as_json, quiet, verbose : bool
        The common options.
    work : callable
        Does the work; it receives the :class:`Output` to fill.

    Raises
    ------
    typer.Exit
        With code 2 after an error, 130 after an interrupt.
    """
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING, force=True)
    for handler in logging.root.handlers:  # what libraries log is for developers
        handler.addFilter(lambda record: verbose or record.name.partition(".")[0] == logger.name)
    logger.setLevel(level)
    output, began = Output(command, as_json=as_json, quiet=quiet), time.time()
    try:
        with _warnings_as_lines():
            work(output)
        output.emit()
    except NeuroreconError as error:
        _fail(output, str(error) if output.hint is None else f"{error}\n  {output.hint}")
    except BrokenPipeError:
        raise  # the reader of the pipe has closed it, as in `| head`: typer exits quietly
    except OSError as error:
        # A full disk, missing permissions, a file where a folder should be: a traceback would not help.
        logger.debug("", exc_info=True)
        _fail(output, str(_of_the_system(error)))
    except KeyboardInterrupt:
        found = "finished work is saved, run the same command again to resume"
        typer.echo(f"neurorecon: interrupted; {found if _saved(output, began) else 'nothing was saved'}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _saved(output: Output, began: float) -> bool:
    """Return whether a file of finished work appeared since the command began."""
    files = (path for folder in output.keeps for path in folder.rglob("*") if path.is_file())
    return any(path.name != "inputs.json" and path.stat().st_mtime >= began for path in files)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print each of our warnings once, as a line that begins with ``warning:``, not as a line of code.

    Warnings of libraries are lines of the detailed messages.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", NeuroreconWarning)
        said = set()

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, NeuroreconWarning):
                logger.debug("%s: %s (%s:%s)", category.__name__, message, *where[:2])
            elif str(message) not in said:
                said.add(str(message))
                logger.warning("warning: %s", message)

        warnings.showwarning = show
        yield


def _of_the_system(error: OSError) -> InputError:
    return InputError(
        "a file cannot be read or written",
        given=f"{error.filename or 'a file'} ({error.strerror or error})",
        expected="readable input files, and a writable folder with enough free space for the results",
        todo="fix the permissions or free some space, or choose another folder with --out; --verbose shows a traceback",
    )


def _fail(output: Output, message: str) -> None:
    typer.echo(f"neurorecon: error: {message}", err=True)
    if output.as_json:
        typer.echo(json.dumps({"command": output.command, "error": message}, ensure_ascii=False))
    raise typer.Exit(2)


#: Holds the location of the store that ``neurorecon build`` built last in the current folder.
CURRENT = Path(".neurorecon") / "store.json"

EMBEDDED = "scenes"


def remember(path: Path) -> None:
    """Make a store the default for commands in this folder; warn if that cannot be saved."""
    from neurorecon.io.files import write_bytes

    try:
        CURRENT.parent.mkdir(exist_ok=True)
        write_bytes(CURRENT, json.dumps({"store": str(path)}).encode())  # never through a link
    except OSError as error:  # the store itself is complete, perhaps after hours of building
        logger.warning(
            "cannot save which store was built last in this folder (%s: %s); name it in further commands: --store %s",
            CURRENT,
            error.strerror or error,
            path,
        )


def named_store(argument: str | None, option: str | None) -> str | None:
    """Return the store that was named by the argument or by ``--store``.

    Raises
    ------
    InputError
        If the two name different stores.
    """
    if argument is not None and option is not None and argument != option:
        raise InputError(
            "two stores are named",
            given=f"{argument} and --store {option}",
            expected="one store, as an argument or as --store",
            todo="leave one of them out",
        )
    return option if argument is None else argument


def committed(location: str | Path) -> Path:
    """Return the folder of a store in which files appear when values are committed."""
    return Path(location) / "manifests"


def choose(
    location: str | None,
    output: Output,
    snapshot: str | None = None,
    verify: bool = True,
    split_column: str | Sequence[str] | None = None,
    device: str | None = None,
) -> Store:
    """Open the named store, or else the one built last in this folder, or else the embedded one, built on demand.

    A device to compute on is checked first: nothing is opened, built or locked if this machine does not have it. Of
    several split columns, the store follows the first; see :func:`by_split`.
    """
    if device is not None:
        from neurorecon.parallel.workers import choose_device

        choose_device(device, ("cpu", "torch", "cuda"))
    store = _choose(location, output, snapshot, verify)
    if split_column:
        column = split_column if isinstance(split_column, str) else split_column[0]
        store = store.with_split(column)
        numbers = ", ".join(f"{row['number']:,} {row['kind']}s {row['split']}" for row in store.stimulus_counts())
        logger.info("split column: %s (%s)", column, numbers)
    return output.use(store)


def _choose(location: str | None, output: Output, snapshot: str | None, verify: bool) -> Store:
    from neurorecon.store.store import open_store

    if location is not None:
        return open_store(location, snapshot=snapshot, verify=verify)
    current = _remembered()
    if current is not None:
        output.hint = _hint(current)
        store = open_store(current, snapshot=snapshot, verify=verify)
        what = "built last in this folder" + (", SIMULATED responses" if store.simulated else "")
        logger.info("store: %s (%s; use --store to choose another)", current, what)
        return store
    from neurorecon.features.extract import build

    store = build(EMBEDDED, progress=output.progress)
    remember(Path(store.location))
    logger.info("store: %s (embedded data set, SIMULATED responses; use --store to choose another)", store.location)
    return store if snapshot is None else open_store(store.location, snapshot=snapshot)


def by_split(columns: list[str] | None, store: Store, output: Output) -> Iterator[tuple[str, Store]]:
    """Yield each split that was named, and the latest snapshot of the store with it; the chosen one if none was.

    Raises
    ------
    UnknownNameError
        If there is no such column; nothing has been computed by then.
    """
    from neurorecon.store.schema import BUILT_IN

    names = list(dict.fromkeys(columns or [store.split_column or BUILT_IN]))
    for name in names:
        store.with_split(name)
    yield names[0], store
    for name in names[1:]:
        yield name, output.use(store.reopened().with_split(name))


def folder_of_split(folder: Path, columns: list[str] | None, split: str) -> Path:
    """Return the folder for the results of one split: a folder of its own where there are several."""
    return folder / file_name(split) if len(set(columns or [])) > 1 else folder


def write_splits(
    found: Mapping[str, Sequence[Result]], store: Store, output: Output, folder: Path, record: Mapping[str, Any],
    formats: Sequence[str] = (), figures: bool = True,
) -> None:  # fmt: skip
    """Write the table of several splits beside the folders of each; of one split there is none."""
    from neurorecon.analyses.generalization import generalization
    from neurorecon.analyses.results import write

    if len(found) > 1:
        table = generalization(found, store)
        output.add_files(write(table, store.with_split(None), folder, record, figures=figures, formats=formats))
        output.extra["splits"] = json.loads(table.table.to_json(orient="records"))
        output.add(table, store)


def subjects_of(store: Store, wanted: list[str] | None) -> list[str]:
    """Return the subjects to analyze, each once.

    Raises
    ------
    UnknownNameError
        If one of them is not in the store; none has been analyzed by then.
    """
    for name in wanted or []:
        if name not in store.subjects:
            raise UnknownNameError("subject", name, store.subjects)
    return list(dict.fromkeys(wanted or store.subjects))


def in_folders(store: Store, columns: Sequence[str] | None = None) -> str:
    """Return what a store is called in the names of folders of results: results of other splits get their own."""
    if len(set(columns or ())) > 1:
        return file_name("_".join([store.name, *dict.fromkeys(columns or ())]))
    return file_name(store.name if store.split_column is None else f"{store.name}_{store.split_column}")


def results_folder(out: Path | None, default: str) -> Path:
    """Return the folder for results, by default ``results/<default>``, with what cannot be in a file name replaced.

    Raises
    ------
    InputError
        If there is a file of that name, or it is inside a store.
    """
    folder = out if out is not None else Path("results") / file_name(default)
    refuse_inside_store(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "the results cannot be written here",
            given=f"{folder}, which is a file",
            expected="a folder, or a path that does not exist yet",
            todo="choose another folder with --out",
        )
    return folder


def _remembered() -> str | None:
    try:
        path = str(json.loads(CURRENT.read_text(encoding="utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if Path(path).exists() else None


def _hint(current: str) -> str:
    """Say which store was used, and which others are in the same folder."""
    others = sorted(str(path) for path in Path(current).parent.glob("*.icechunk") if path != Path(current))
    beside = f"; in the same folder: {', '.join(others)}" if others else ""
    return f"store:    {current}, the store built last in this folder{beside}. Use --store to choose another"
