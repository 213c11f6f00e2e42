"""``neurorecon check``: recompute the digest of every array and compare it with the stored one."""

from __future__ import annotations

from typing import Annotated

import typer

from neurorecon.cli.common import (
    JsonOption,
    Output,
    QuietOption,
    SnapshotOption,
    StoreArgument,
    StoreOption,
    VerboseOption,
    run_command,
)


def check(
    named: StoreArgument = None,
    store: StoreOption = None,
    snapshot: SnapshotOption = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="If all arrays are intact, delete the leftovers of killed builds that no snapshot refers to.",
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Verify that every array of a store is as it was written.

    Checks the latest completed snapshot, or the one that --snapshot names. An unfinished build is not checked.
    The exit code is 2 if the store is damaged.
    """

    def work(output: Output) -> None:
        from tqdm import tqdm

        from neurorecon.cli.common import choose, named_store
        from neurorecon.errors import StoreError
        from neurorecon.store.check import check_store, prune_store, unfinished_build

        opened = choose(named_store(named, store), output, snapshot=snapshot, verify=False)
        findings = list(tqdm(check_store(opened), desc="check", unit=" arrays", disable=quiet, leave=False))
        damaged = [finding for finding in findings if finding.problem]
        if damaged:
            raise StoreError(
                f"the store is damaged: {len(damaged)} of {len(findings)} arrays differ from what was written",
                given="; ".join(f"{finding.array}: {finding.problem}" for finding in damaged[:10]),
                expected="the digests that were stored when the arrays were written",
                todo="copy the store again, or rebuild it with `neurorecon build RECIPE.toml --overwrite`; an older "
                "snapshot may be intact (--snapshot ID)",
            )
        output.extra["arrays"] = len(findings)
        output.say(f"{opened.location}: all {len(findings)} arrays are intact ({opened.digest})")
        for name in opened.subjects:
            for task in opened.tasks(name):
                for caution in opened.cautions(name, task):
                    output.extra.setdefault("cautions", []).append(f"{name}, {task}: {caution}")
                    output.say(f"warning: {name}, {task}: {caution}")
        for column in opened.split_columns:
            divided = opened.with_split(column)
            for name in divided.subjects:
                for task in divided.tasks(name):
                    for caution in divided.cautions(name, task, centered=True):  # sessions are judged above
                        output.extra.setdefault("cautions", []).append(f"split {column}, {name}, {task}: {caution}")
                        output.say(f"warning: split {column}, {name}, {task}: {caution}")
        if opened.snapshot is not None:
            output.say(f"checked snapshot {opened.snapshot}; use --snapshot ID to check another one")
        output.extra["unfinished_build"] = unfinished_build(opened)
        if output.extra["unfinished_build"]:
            output.say("not checked: a build that is running or was interrupted; check again when it is complete")
        if prune:
            output.extra["pruned_bytes"] = prune_store(opened)
            output.say(f"deleted {output.extra['pruned_bytes'] / 1e6:.1f} MB that no snapshot refers to")

    run_command("check", as_json, quiet, verbose, work)
