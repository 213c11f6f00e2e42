"""``neurorecon info``: what a store holds."""

from __future__ import annotations

from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command


def info(
    store: Annotated[
        str | None, typer.Argument(help="The store; left out: the one that other commands would use.")
    ] = None,
    snapshot: Annotated[str | None, typer.Option("--snapshot", help="Id of an older state.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what a store holds: subjects, tasks, ROIs, targets, noise ceilings, where it came from."""

    def work(output: Output) -> None:
        from neurorecon.cli.common import choose
        from neurorecon.store.check import as_text, describe
        from neurorecon.store.store import open_store

        if snapshot is None:
            opened = choose(store, output)
        else:
            opened = output.use(open_store(store or choose(None, output).location, snapshot=snapshot))
        facts = describe(opened)
        output.extra["info"] = facts
        output.say(as_text(facts))

    run_command("info", as_json, quiet, verbose, work)
