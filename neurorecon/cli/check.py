"""``neurorecon check``: recompute the digest of every array."""

from __future__ import annotations

from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, VerboseOption, run_command


def check(
    store: Annotated[str, typer.Argument(help="The store.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check that a store still says what was written into it. Exit code 2 where it does not."""

    def work(output: Output) -> None:
        from tqdm import tqdm

        from neurorecon.errors import StoreError
        from neurorecon.store.check import check_store
        from neurorecon.store.store import open_store

        opened = output.use(open_store(store))
        total = len(opened.arrays())
        findings = list(tqdm(check_store(opened), total=total, desc="check", unit="array", disable=quiet, leave=False))
        damaged = [finding for finding in findings if finding.problem]
        if damaged:
            raise StoreError(
                f"{len(damaged)} of {len(findings)} arrays of this store are damaged",
                given="; ".join(f"{finding.array}: {finding.problem}" for finding in damaged[:10]),
                expected="the digests that were stored at writing",
                todo="open an older state with snapshot=..., copy the store again, or build it anew from its recipe",
            )
        output.extra["arrays"] = len(findings)
        output.say(f"{store}: all {len(findings)} arrays are as they were written ({opened.digest})")

    run_command("check", as_json, quiet, verbose, work)
