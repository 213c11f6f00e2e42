"""``neurorecon datasets``: list data sets, show and download their files, write miniatures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, logger, run_command
from neurorecon.io.files import refuse_inside_store

if TYPE_CHECKING:
    from neurorecon.hub import Item, Need

datasets = typer.Typer(
    help="List data sets, show the files they need, download some of them, write simulated miniatures.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@datasets.command("list")
def list_datasets(
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List all data sets: title, terms of use, how to get them, and whether there is a reader."""

    def work(output: Output) -> None:
        from neurorecon.hub import items
        from neurorecon.registry import DATASETS
        from neurorecon.testing.layouts import layouts

        readers, miniatures = DATASETS.names(), layouts()
        rows = [_facts(entry) for entry in items("data set")]
        known = {row["name"] for row in rows}
        rows += [{"name": name, "title": "from another package", "terms": "?", "download": "?"} for name in readers
                 if name not in known]  # fmt: skip
        width = max(len(row["title"]) for row in rows) + 2
        output.say(f"{'name':<16}{'reader':<9}{'miniature':<11}{'download':<17}{'what':<{width}}terms")
        for row in rows:
            row |= {"reader": row["name"] in readers, "miniature": row["name"] in miniatures}
            output.say(
                f"{row['name']:<16}{'yes' if row['reader'] else 'not yet':<9}{'yes' if row['miniature'] else '-':<11}"
                f"{row['download']:<17}{row['title']:<{width}}{row['terms']}"
            )
        output.extra["datasets"] = rows
        if not quiet:
            output.say("\nneurorecon datasets show NAME lists the files, their sizes, and commands that download them")

    run_command("datasets list", as_json, quiet, verbose, work)


@datasets.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set, from `neurorecon datasets list`.")],
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", metavar="NAME", help="Subject; repeat for several. Default for nsd: subj01."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="NAME", help="nsd: core (default), synthetic or imagery."),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="NAME", help="nsd: func1pt8mm (default), func1mm or fsaverage."),
    ] = None,
    betas: Annotated[
        str | None,
        typer.Option(
            "--betas",
            metavar="NAME",
            help="nsd: betas_fithrf_GLMdenoise_RR (default), betas_fithrf or betas_assumehrf.",
        ),
    ] = None,
    sessions: Annotated[
        str | None,
        typer.Option(
            "--sessions", metavar="RANGE", help="nsd: sessions, e.g. 1-37 or 1-3,40. Default: all of each subject."
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="nsd: file format of volumes, nii.gz (default) or hdf5."),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="Download folder to fill into the printed commands.")
    ] = "DIR",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the files a data set needs, their sizes, the terms of use, and commands that download these files."""

    def work(output: Output) -> None:
        from neurorecon.hub import commands, find, needs, readable
        from neurorecon.registry import DATASETS

        entry = find(name, "data set")
        choices = {
            "subjects": subject or None,
            "sessions": None if sessions is None else _numbers(sessions),
            "task": task,
            "space": space,
            "betas": betas,
            "file_format": file_format,
        }
        needed, how = needs(entry, **choices), commands(entry, out, **choices)
        facts = _facts(entry) | {"reader": name in DATASETS.names()}
        size = sum(need.size or 0 for need in needed)
        output.extra |= facts | {
            "needs": [vars(need) for need in needed],
            "bytes_known": size,
            "steps": list(entry.steps),
            "commands": how,
        }
        output.say(f"{name}: {entry.title}")
        for label, text in (
            ("cite", entry.citation),
            ("terms", entry.license),
            ("home", entry.home),
            ("page", entry.page),
        ):
            if text:
                output.say(f"  {label:<8}{text}")
        if not facts["reader"]:
            output.say("  reader  not yet")
        if needed:
            output.say("\nfiles needed in the folder of the data set:")
            for need in needed:
                output.say(_line(need))
            if size:
                output.say(f"  {readable(size, any(need.about for need in needed)):>10}  in total, as far as known")
        for title, lines in (("steps", entry.steps), ("commands", how)):
            if lines:
                output.say(f"\n{title}:")
                for line in lines:
                    output.say(f"  {line}")

    run_command("datasets show", as_json, quiet, verbose, work)


@datasets.command("download")
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="miyawaki2008, haxby2001 or yamada2015.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to download into.")],
    excerpt: Annotated[
        bool,
        typer.Option("--excerpt", help="Download a few megabytes only, for a first try (miyawaki2008, haxby2001)."),
    ] = False,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject", metavar="NAME", help="haxby2001: subj1 to subj6; repeat for several. Default: subj2."
        ),
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="haxby2001: also download the stimulus images.")] = False,
    former: Annotated[bool, typer.Option("--pictures", hidden=True)] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download a data set whose terms of use allow it.

    Files that are already there are kept. Excerpts are checked against their sha256.
    """

    def work(output: Output) -> None:
        from neurorecon.hub import fetch, find

        refuse_inside_store(out)
        if former:
            logger.warning("--pictures is deprecated; use --images instead")
        entry = find(name, "data set")
        images_too, chosen = images or former, subject or None
        root = fetch(name, out, excerpt=excerpt, subjects=chosen, images=images_too, progress=output.progress)
        output.extra |= _facts(entry) | {"root": str(root)}
        output.files += sorted(str(path) for path in root.rglob("*") if path.is_file())
        output.say(f"{root}: {len(output.files)} files. Terms: {entry.license}. Cite: {entry.citation}")
        output.say(f"next, build a store: neurorecon build stores/{name}.toml --root {root}")

    run_command("datasets download", as_json, quiet, verbose, work)


@datasets.command("miniature")
def miniature(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the data set, e.g. nsd, bids or arrays.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write; it must be new or empty.")],
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Random seed; the same seed gives the same files.")
    ] = 0,
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", metavar="NAME", help="nsd: subj01 to subj08; repeat for several. Default: two."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="nsd: core (default), synthetic or imagery; repeat for several."),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="NAME",
            help="nsd: func1pt8mm (default), func1mm, MNI, fsaverage or nativesurface; repeat for several.",
        ),
    ] = None,
    file_format: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="NAME", help="nsd: nii.gz (default) or hdf5; repeat for both."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a tiny SIMULATED data set in the file layout of a real one, to try commands before downloading it."""

    def work(output: Output) -> None:
        from neurorecon.testing.layouts import write_layout

        refuse_inside_store(out)
        given = {"subjects": subject, "tasks": task, "spaces": space, "formats": file_format}
        files = write_layout(name, out, seed=seed, choices={key: values for key, values in given.items() if values})
        size = sum(path.stat().st_size for path in files)
        output.extra |= {"name": name, "folder": str(out), "seed": seed, "number_of_files": len(files), "bytes": size}
        output.say(f"{out}: {len(files)} files, {size / 1e6:.1f} MB, SIMULATED, in the file layout of {name}")
        output.say(f"next, build a store: neurorecon build stores/{name}.toml --root {out}")

    run_command("datasets miniature", as_json, quiet, verbose, work)


def _facts(entry: Item) -> dict[str, Any]:
    facts = {name: getattr(entry, name) for name in ("name", "title", "citation", "home", "download", "page")}
    return facts | {"terms": entry.license}


def _line(need: Need) -> str:
    from neurorecon.hub import readable

    many = f" ({need.number} files)" if need.number > 1 else ""
    optional = ", optional" if need.optional else ""
    size = "" if need.size is None else readable(need.size, need.about)
    return f"  {size:>10}  {need.path}{many}: {need.what}{optional}"


def _numbers(text: str) -> list[int]:
    """Parse numbers and ranges such as ``"1-3,40"``."""
    from neurorecon.errors import InputError

    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise InputError(
                "the sessions are not understood",
                given=repr(text),
                expected="numbers and ranges, e.g. 1-37 or 1-3,40",
                todo="correct --sessions",
            )
        found += range(int(first), int(last or first) + 1)
    return found
