"""``neurorecon build``: from a folder of raw files to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command


def build(
    recipe: Annotated[
        str, typer.Argument(help="A recipe (stores/NAME.toml), or the name of a data set, e.g. scenes.")
    ] = "scenes",
    root: Annotated[
        Path | None, typer.Option("--root", help="The folder of the data set as you downloaded it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The store to build; by default beside the recipe.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Build anew, in place of what is there.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Build a store from a recipe. Interrupted builds go on where they stopped."""

    def work(output: Output) -> None:
        from neurorecon.cli.common import remember
        from neurorecon.features.extract import build as build_with_targets
        from neurorecon.store.check import as_text, describe

        store = build_with_targets(recipe, out, root=root, overwrite=overwrite, progress=output.progress)
        remember(Path(store.location))
        output.use(store)
        output.files.append(store.location)
        facts = describe(store)
        output.extra["info"] = facts
        output.say(as_text(facts))

    run_command("build", as_json, quiet, verbose, work)
