"""``neurorecon build``: build a store from a folder of raw files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command


def build(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="Recipe (stores/NAME.toml), or name of a data set; scenes is the embedded one."
        ),
    ] = "scenes",
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="DIR", help="Folder of the data set, with its files as you downloaded them."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="STORE", help="Store to write (NAME.icechunk). Default: next to the recipe."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing store instead of resuming its build.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Build a store from a recipe.

    Run the same command again to resume an interrupted build.
    """

    def work(output: Output) -> None:
        from neurorecon.cli.common import committed, remember
        from neurorecon.datasets.recipe import load_recipe
        from neurorecon.features.extract import build as build_with_targets
        from neurorecon.features.extract import store_path
        from neurorecon.store.check import as_text, describe

        output.keeps.append(committed(out or store_path(load_recipe(recipe, root), recipe)))
        store = build_with_targets(recipe, out, root=root, overwrite=overwrite, progress=output.progress)
        remember(Path(store.location))
        output.use(store)
        output.files.append(store.location)
        facts = describe(store)
        output.extra["info"] = facts
        output.say(as_text(facts))

    run_command("build", as_json, quiet, verbose, work)
