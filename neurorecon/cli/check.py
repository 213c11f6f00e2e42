"""``neurorecon check``: recompute the digest of every array."""

from __future__ import annotations

from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command


def check(
    store: Annotated[str, typer.Argument(help="The store.")],
    snapshot: Annotated[str | None, typer.Option("--snapshot", help="Id of an older state.")] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Where all is whole: remove what killed builds left and no state of the store refers to."
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check that a store still says what was written into it. Exit code 2 where it does not.

    One state is checked: the newest that was completed, or the one that --snapshot names. A build that is not
    completed is no part of it.
    """

    def work(output: Output) -> None:
        from tqdm import tqdm

        from neurorecon.errors import StoreError
        from neurorecon.store.check import check_store, prune_store, unfinished_build
        from neurorecon.store.store import open_store

        opened = output.use(open_store(store, snapshot=snapshot))
        findings = list(tqdm(check_store(opened), desc="check", unit=" arrays", disable=quiet, leave=False))
        damaged = [finding for finding in findings if finding.problem]
        if damaged:
            raise StoreError(
                f"this store is damaged: {len(damaged)} of {len(findings)} arrays differ from what was written",
                given="; ".join(f"{finding.array}: {finding.problem}" for finding in damaged[:10]),
                expected="the digests that were stored at writing",
                todo="copy the store again, or build it anew: neurorecon build RECIPE.toml --overwrite (older states "
                "may be whole: snapshot=...)",
            )
        output.extra["arrays"] = len(findings)
        output.say(f"{store}: all {len(findings)} arrays are as they were written ({opened.digest})")
        if opened.snapshot is not None:
            output.say(f"checked: the state {opened.snapshot}; others are checked with --snapshot ID")
        output.extra["unfinished_build"] = unfinished_build(opened)
        if output.extra["unfinished_build"]:
            output.say("not checked: a build that is going on or was interrupted; check again when it is completed")
        if prune:
            output.extra["pruned_bytes"] = prune_store(opened)
            output.say(f"removed: {output.extra['pruned_bytes'] / 1e6:.1f} MB that no state of the store refers to")

    run_command("check", as_json, quiet, verbose, work)
