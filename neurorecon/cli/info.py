"""``neurorecon info``: summarize a store."""

from __future__ import annotations

from neurorecon.cli.common import (
    JsonOption,
    Output,
    QuietOption,
    SnapshotOption,
    SplitColumnOption,
    StoreArgument,
    StoreOption,
    VerboseOption,
    run_command,
)


def info(
    named: StoreArgument = None,
    store: StoreOption = None,
    snapshot: SnapshotOption = None,
    split_column: SplitColumnOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the contents of a store: subjects, tasks, ROIs, targets, noise ceilings, provenance."""

    def work(output: Output) -> None:
        from neurorecon.cli.common import choose, named_store
        from neurorecon.store.check import as_text, describe

        facts = describe(choose(named_store(named, store), output, snapshot=snapshot, split_column=split_column))
        output.extra["info"] = facts
        output.say(as_text(facts))

    run_command("info", as_json, quiet, verbose, work)
