"""``neurorecon features``: compute targets for the stimuli of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, StoreOption, VerboseOption, run_command


def features(
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="A target to compute; may be given several times."),
    ] = None,
    store: StoreOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace targets that were made otherwise.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compute targets (gabor, category, motion, ...) for the stimuli of a store."""

    def work(output: Output) -> None:
        from neurorecon.cli.stores import choose
        from neurorecon.features.extract import extract
        from neurorecon.registry import FEATURES

        opened = choose(store, output)
        if not target:
            output.extra["targets"] = {"available": opened.targets_available, "known": FEATURES.names()}
            output.say(f"in the store: {', '.join(opened.targets_available) or 'none'}")
            output.say(f"can be computed (--target NAME): {', '.join(FEATURES.names())}")
            return
        opened = output.use(extract(opened, target, overwrite=overwrite, progress=output.progress))
        for name in target:
            values = opened.targets(name)
            output.say(f"{name}: {' x '.join(str(size) for size in values.shape)} ({', '.join(map(str, values.dims))})")

    run_command("features", as_json, quiet, verbose, work)
