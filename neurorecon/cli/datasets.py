"""``neurorecon datasets``: which data sets can be read, what each needs on disk, how to get it; miniatures of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, logger, run_command

if TYPE_CHECKING:
    from neurorecon.hub import Item, Need

datasets = typer.Typer(
    help="Data sets: list them, show what each needs on disk, download those that may be, write miniatures.",
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
    """List all data sets: what they are, how to get them, their terms, and whether there is a reader."""

    def work(output: Output) -> None:
        from neurorecon.hub import items
        from neurorecon.registry import DATASETS
        from neurorecon.testing.layouts import layouts

        readers, miniatures = DATASETS.names(), layouts()
        rows = [_facts(entry) for entry in items("data set")]
        known = {row["name"] for row in rows}
        rows += [{"name": name, "title": "from another package", "terms": "?", "download": "?"} for name in readers
                 if name not in known]  # fmt: skip
        output.say(f"{'name':<16}{'reader':<9}{'miniature':<11}{'download':<17}{'what':<68}terms")
        for row in rows:
            row |= {"reader": row["name"] in readers, "miniature": row["name"] in miniatures}
            output.say(
                f"{row['name']:<16}{'yes' if row['reader'] else 'not yet':<9}{'yes' if row['miniature'] else '-':<11}"
                f"{row['download']:<17}{row['title']:<68}{row['terms']}"
            )
        output.extra["datasets"] = rows
        if not quiet:
            output.say(
                "\nneurorecon datasets show NAME: the files needed, their sizes, terms, commands that fetch them"
            )

    run_command("datasets list", as_json, quiet, verbose, work)


@datasets.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of the data set, as `datasets list` shows it.")],
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="A subject; may be given several times. nsd: subj01 where left out."),
    ] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="nsd: func1pt8mm (where left out), func1mm or fsaverage.")
    ] = None,
    betas: Annotated[
        str | None,
        typer.Option(
            "--betas",
            help="nsd: betas_fithrf_GLMdenoise_RR (where left out), betas_fithrf or betas_assumehrf.",
        ),
    ] = None,
    sessions: Annotated[
        str | None, typer.Option("--sessions", help="nsd: e.g. 1-37 or 1-3,40. Left out: all of each subject.")
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="nsd, volumes: nii.gz (where left out) or hdf5.")
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="The folder that the commands put files into.")] = "DIR",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the files that a data set needs, their sizes, its terms, and the public commands for exactly these files."""

    def work(output: Output) -> None:
        from neurorecon.hub import commands, find, needs, readable
        from neurorecon.registry import DATASETS

        entry = find(name, "data set")
        choices = {
            "subjects": subject or None,
            "sessions": None if sessions is None else _numbers(sessions),
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
            output.say("\nneeded below the folder of the data set:")
            for need in needed:
                output.say(_line(need))
            if size:
                output.say(f"  {readable(size, any(need.about for need in needed)):>10}  in all, as far as known")
        for title, lines in (("steps", entry.steps), ("commands", how)):
            if lines:
                output.say(f"\n{title}:")
                for line in lines:
                    output.say(f"  {line}")

    run_command("datasets show", as_json, quiet, verbose, work)


@datasets.command("download")
def download(
    name: Annotated[str, typer.Argument(help="miyawaki2008, haxby2001 or yamada2015.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to put it into.")],
    excerpt: Annotated[
        bool, typer.Option("--excerpt", help="A few megabytes for a first try (miyawaki2008, haxby2001).")
    ] = False,
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="haxby2001: subj1 to subj6; may be given several times. Left out: subj2."),
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="haxby2001: the images too.")] = False,
    former: Annotated[bool, typer.Option("--images", hidden=True)] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Download a data set whose terms allow it. What is there already is kept; excerpts are checked by sha256."""

    def work(output: Output) -> None:
        from neurorecon.hub import fetch, find

        if former:
            logger.warning("--images is now called --images")
        entry = find(name, "data set")
        images_too, chosen = images or former, subject or None
        root = fetch(name, out, excerpt=excerpt, subjects=chosen, images=images_too, progress=output.progress)
        output.extra |= _facts(entry) | {"root": str(root)}
        output.files += sorted(str(path) for path in root.rglob("*") if path.is_file())
        output.say(f"{root}: {len(output.files)} files. Terms: {entry.license}. Cite: {entry.citation}")
        output.say(f"build a store: neurorecon build stores/{name}.toml --root {root}")

    run_command("datasets download", as_json, quiet, verbose, work)


@datasets.command("miniature")
def miniature(
    name: Annotated[str, typer.Argument(help="Name of the layout, e.g. nsd, bids or arrays.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write; it may not hold anything yet.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything; the same seed, the same files.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a tiny SIMULATED data set in the layout of a real one: to try commands before the real files are there."""

    def work(output: Output) -> None:
        from neurorecon.testing.layouts import write_layout

        files = write_layout(name, out, seed=seed)
        size = sum(path.stat().st_size for path in files)
        output.extra |= {"name": name, "folder": str(out), "seed": seed, "number_of_files": len(files), "bytes": size}
        output.say(f"{out}: {len(files)} files, {size / 1e6:.1f} MB, SIMULATED, in the layout of {name}")
        output.say(f"build a store: neurorecon build stores/{name}.toml --root {out}")

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
    """Return the numbers of e.g. ``"1-3,40"``."""
    from neurorecon.errors import InputError

    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise InputError(
                "these sessions cannot be read",
                given=repr(text),
                expected="numbers and ranges, e.g. 1-37 or 1-3,40",
                todo="correct --sessions",
            )
        found += range(int(first), int(last or first) + 1)
    return found
