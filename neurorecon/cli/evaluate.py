"""``neurorecon evaluate``: score images from anywhere against what was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, StoreOption, VerboseOption, run_command
from neurorecon.cli.maps import command_line
from neurorecon.cli.reconstruct import ExchangeOption, MetricOption


def evaluate(
    images: Annotated[
        Path,
        typer.Argument(
            help="A folder of image files called as their stimuli (image0001.png), or a .npz file with the arrays "
            "'stimulus' and 'reconstructed'."
        ),
    ],
    store: StoreOption = None,
    metric: MetricOption = None,
    exchange: ExchangeOption = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="Whose sessions or runs --exchange means. Left out: the first.")
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations.")] = 0,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Score the mean training image too.")
    ] = True,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score images, e.g. of another toolbox, against the stimuli of a store; each score beside its null and p."""

    def work(output: Output) -> None:
        from neurorecon.analyses.evaluate import evaluate as run
        from neurorecon.analyses.evaluate import load_images, write_evaluation
        from neurorecon.analyses.results import record_of
        from neurorecon.cli.common import choose, results_folder

        found_images = load_images(images)
        opened = choose(store, output)
        folder = results_folder(out, f"evaluate_{opened.name}")
        found = run(
            found_images,
            opened,
            metrics=metric,
            n_permutations=permutations,
            seed=seed,
            exchange=exchange,
            subject=subject,
            baseline="train" if baseline else None,
            source=str(images),
        )
        record = record_of(opened, command_line(), seed=seed, settings=found.settings)
        output.add_files(write_evaluation(found, opened, folder, record))
        output.scores += found.scores
        output.say(found.text())

    run_command("evaluate", as_json, quiet, verbose, work)
