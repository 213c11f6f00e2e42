"""``neurorecon evaluate``: score images from anywhere against the stimuli that were seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import (
    FormatOption,
    JsonOption,
    NoFiguresOption,
    Output,
    QuietOption,
    SplitColumnOption,
    StoreOption,
    VerboseOption,
    formats_of,
    run_command,
)
from neurorecon.cli.maps import command_line
from neurorecon.cli.reconstruct import DeviceOption, ExchangeOption, MetricOption

#: Options that scoring of images has in common.
JudgesOption = Annotated[
    str | None,
    typer.Option("--models", metavar="NAME", help="Networks of the metrics: bundled, published, or a folder."),
]
ExchangedSubjectOption = Annotated[
    str | None, typer.Option("--subject", help="Whose sessions or runs --exchange uses. Default: the first.")
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="CSV with the columns file (in the folder) and stimulus, where files are not named by stimulus "
        "or a stimulus has several images.",
    ),
]
PermutationsOption = Annotated[int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")]


def evaluate(
    images: Annotated[
        Path,
        typer.Argument(
            help="A folder of results of `neurorecon reconstruct`, a folder of images or videos named by "
            "stimulus (image0001.png, video0001.mp4), or a .npz file with the arrays 'stimulus' and 'reconstructed'."
        ),
    ],
    table: TableOption = None,
    store: StoreOption = None,
    split_column: SplitColumnOption = None,
    metric: MetricOption = None,
    models: JudgesOption = None,
    device: DeviceOption = "cpu",
    exchange: ExchangeOption = None,
    subject: ExchangedSubjectOption = None,
    permutations: PermutationsOption = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations.")] = 0,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Also score the mean training image.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results. Default: results/evaluate_STORE_IMAGES.")
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score images (of this or another toolbox) against the stimuli of a store, with a null and p-values."""

    def work(output: Output) -> None:
        from neurorecon.analyses.design import EvaluateSettings
        from neurorecon.analyses.evaluate import compute_evaluation, load_images
        from neurorecon.analyses.results import record_of, write
        from neurorecon.cli.common import choose, in_folders, results_folder

        drawn_as = formats_of(formats)
        settings = EvaluateSettings(
            source=images.name if images.is_absolute() else str(images),
            metrics=metric or None, models=models, device=device, exchange=exchange, subject=subject,
            n_permutations=permutations, seed=seed, baseline="train" if baseline else None,
        )  # fmt: skip
        found_images = load_images(images, table)
        opened = choose(store, output, split_column=split_column, device=device)
        folder = results_folder(out, f"evaluate_{in_folders(opened)}_{images.resolve().stem}")
        found = compute_evaluation(found_images, opened, settings)
        record = record_of(opened, command_line(), seed=seed)
        output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))
        output.add(found, opened)

    run_command("evaluate", as_json, quiet, verbose, work)
