"""``neurorecon datasets``: which data sets can be read, what each needs on disk, how to get it; miniatures of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command

datasets = typer.Typer(
    help="Data sets: list them, show what each needs on disk, download those that may be, write miniatures.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
