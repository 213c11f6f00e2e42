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

    run_command("check", as_json, quiet, verbose, work)
