"""``neurorecon split``: write split columns into a store, which every command takes with ``--split-column``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import (
    JsonOption,
    Output,
    QuietOption,
    StoreArgument,
    StoreOption,
    VerboseOption,
    run_command,
)
from neurorecon.errors import InputError


def split(
    named: StoreArgument = None,
    store: StoreOption = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="random (fifths), cluster_k5 (held-out clusters of CLIP, or another number), tau (test stimuli far "
            "from training stimuli), session (of the last fifth of the sessions), or leave-category (one column "
            "for each category).",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="Target whose space stimuli are compared in. Default: clip_image."),
    ] = None,
    clusters: Annotated[int | None, typer.Option("--clusters", min=2, help="Of cluster: how many. Default: 5.")] = None,
    share: Annotated[float, typer.Option("--share", help="Of tau: the share of the stimuli to test on.")] = 0.1,
    tau: Annotated[
        float | None,
        typer.Option(
            "--tau",
            help="Of tau: cosine distance within which no test stimulus has a training stimulus. Default: the largest "
            "at which the test stimuli still match all stimuli.",
        ),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option("--category", help="Of leave-category: a category; may be given several times. Default: all."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            help="Instead of --kind, your own split: a CSV, TSV or Parquet file with a column stimulus and --column.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", metavar="NAME", help="With --table: its column of train, test or nothing."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of random numbers.")] = 0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace columns of the same names that were made with other settings.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Divide the stimuli of a store into training and test stimuli in further ways, hard ones among them.

    The columns are stored beside the split that the store was built with. Use one with --split-column NAME.
    """

    def work(output: Output) -> None:
        from neurorecon.analyses.splits import SplitSettings, compute_splits, write_splits
        from neurorecon.cli.common import choose, named_store

        if (kind is None) == (table is None):
            raise InputError(
                "a split is either of a kind or from a table",
                given="neither" if kind is None else "--kind and --table",
                expected="--kind random|cluster_k5|tau|leave-category, or --table FILE.csv --column NAME",
                todo="give one of them",
            )
        if clusters is not None and kind not in ("cluster", f"cluster_k{clusters}", "cluster_k5"):
            raise InputError(
                "the number of clusters belongs to another kind",
                given=f"--clusters {clusters} with --kind {kind}",
                expected="--kind cluster --clusters K, or --kind cluster_kK",
                todo="leave one of them out",
            )
        settings = SplitSettings(
            kind=f"cluster_k{clusters}" if clusters is not None else kind or "table",
            target=target, share=share, tau=tau, categories=category or None, table=table, column=column, seed=seed,
        )  # fmt: skip
        opened = choose(named_store(named, store), output)
        found = compute_splits(opened, settings)
        opened = output.use(write_splits(found, opened, replace=replace))
        output.extra["split_columns"] = {name: opened.about_split(name) for name in found.columns}
        output.extra["warnings"] = list(found.warnings)
        output.say(found.text())
        output.say(f"use one of them: neurorecon maps --split-column {next(iter(found.columns))}")

    run_command("split", as_json, quiet, verbose, work)
