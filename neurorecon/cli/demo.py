"""``neurorecon demo``: a guided tour on the embedded simulated data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, logger, run_command


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the maps and the report.")] = Path(
        "demo"
    ),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take a tour: build the embedded store, map all voxels, reconstruct images and videos, write a report."""

    def work(output: Output) -> None:
        from neurorecon.analyses.tour import tour
        from neurorecon.cli.common import EMBEDDED
        from neurorecon.cli.maps import command_line
        from neurorecon.features.extract import build

        logger.info("store ...")
        store = output.use(build(EMBEDDED, progress=output.progress))
        files, output.scores = tour(store, out, command=command_line(), say=logger.info)
        output.add_files(files[:1] if not as_json else files)
        output.say(f"open {files[0]} in a browser; {len(files) - 1} other files are in the same folder")

    run_command("demo", as_json, quiet, verbose, work)
