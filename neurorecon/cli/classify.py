"""``neurorecon classify``: decode the category that was seen, with a permutation null."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import (
    FormatOption,
    JsonOption,
    Output,
    QuietOption,
    SplitColumnOption,
    StoreOption,
    VerboseOption,
    formats_of,
    run_command,
)
from neurorecon.cli.maps import command_line


def classify(
    store: StoreOption = None,
    split_column: SplitColumnOption = None,
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="A subject; may be given several times. Default: all."),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option("--roi", "-r", help="An ROI, a union, one side, or a group; may be given several times."),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option("--category", help="A category; give two or more. Default: all."),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Default: the task with the most samples.")] = None,
    cross_validate: Annotated[
        str, typer.Option("--cross-validate", help="Hold out one run (or session, stimulus) at a time.")
    ] = "run",
    center: Annotated[
        str,
        typer.Option(
            "--center",
            metavar="COLUMN",
            help="Subtract the mean of each session (or run), or none. "
            "Default: session, where sessions are confounded with stimuli, splits or categories.",
        ),
    ] = "auto",
    scale: Annotated[
        str,
        typer.Option(
            "--scale",
            metavar="COLUMN",
            help="Divide by the standard deviation within each session (or run), or none. Default: as for --center.",
        ),
    ] = "auto",
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    svm_c: Annotated[
        float, typer.Option("--C", help="C of the support vector machine: larger values regularize less.")
    ] = 1.0,
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate of the map.")] = 0.05,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")] = None,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Tables and brain images only.")] = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Decode the category that was seen, and map where responses differ between categories."""

    def work(output: Output) -> None:
        from neurorecon.analyses.classify import compute_classification
        from neurorecon.analyses.design import ClassifySettings
        from neurorecon.analyses.results import record_of, write
        from neurorecon.cli.common import choose, in_folders, results_folder, subjects_of

        drawn_as = formats_of(formats)
        settings = ClassifySettings(
            roi=roi[0] if roi is not None and len(roi) == 1 else roi, task=task, categories=category or None,
            cross_validate=cross_validate,  # type: ignore[arg-type]
            center=None if center == "none" else center,  # type: ignore[arg-type]
            scale=None if scale == "none" else scale,  # type: ignore[arg-type]
            C=svm_c, n_permutations=permutations, fdr=fdr, seed=seed,
        )  # fmt: skip
        opened = choose(store, output, split_column=split_column)
        folder = results_folder(out, "_".join(["classify", in_folders(opened), *(roi or [])]))
        for name in subjects_of(opened, subject):
            found = compute_classification(opened, name, settings, progress=output.progress)
            record = record_of(opened, command_line(), seed=seed)
            output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))
            output.add(found, opened)

    run_command("classify", as_json, quiet, verbose, work)
