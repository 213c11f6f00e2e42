"""``neurorecon audit`` and ``neurorecon shuffle``: what of a score comes from the brain, and by which target."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from neurorecon.cli.common import (
    FormatOption,
    JsonOption,
    NoFiguresOption,
    Output,
    QuietOption,
    SplitColumnOption,
    SplitColumnsOption,
    StoreOption,
    VerboseOption,
    formats_of,
    run_command,
)
from neurorecon.cli.evaluate import PermutationsOption, TableOption
from neurorecon.cli.maps import command_line, without_folder
from neurorecon.cli.reconstruct import (
    CenterOption,
    DeviceOption,
    MetricOption,
    ModelsOption,
    PresetOption,
    RefineOption,
    RoisOption,
    ScaleOption,
    SetOption,
    StimuliOption,
    SubjectsOption,
    TaskOption,
    parameters_of,
    refined,
    rois_of,
    standardization_of,
)
from neurorecon.errors import InputError
from neurorecon.registry import SYSTEMS

AuditedSystemOption = Annotated[
    str | None,
    typer.Option(
        "--system",
        help=f"A system: {', '.join(SYSTEMS.builtin)}, another package's, or the folder of a fitted system. "
        "Default: brain-diffuser.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of noise, permutations and bootstraps.")]


def audit(
    images: Annotated[
        Path | None,
        typer.Argument(
            help="Images from elsewhere in place of a system: what `neurorecon evaluate` takes. What takes a system "
            "(another trial, oracle, ...) cannot be computed for them; the report says so."
        ),
    ] = None,
    table: TableOption = None,
    system: AuditedSystemOption = None,
    store: StoreOption = None,
    split_column: SplitColumnsOption = None,
    models: ModelsOption = None,
    preset: PresetOption = None,
    setting: SetOption = None,
    refine: RefineOption = None,
    subject: SubjectsOption = None,
    roi: RoisOption = None,
    task: TaskOption = None,
    metric: MetricOption = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            help="A split beside that of the store, from `neurorecon split`: a column, or several by their name "
            "without number (cluster_k5). May be given several times; none for no other split. Default: all that "
            "the store has.",
        ),
    ] = None,
    stimuli: StimuliOption = None,
    center: CenterOption = "auto",
    scale: ScaleOption = "auto",
    permutations: PermutationsOption = 1000,
    refits: Annotated[
        int,
        typer.Option(
            "--refits",
            min=0,
            help="Also refit the system on re-paired training data so many times, and generate images with each: the "
            "only null that says whether the pairing was learned.",
        ),
    ] = 0,
    bootstraps: Annotated[
        int, typer.Option("--bootstraps", min=1, help="Bootstraps behind intervals and paired differences.")
    ] = 10_000,
    seed: SeedOption = 0,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Reconstruct with this many seeds; scores are averaged over them.")
    ] = 1,
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results. Default: results/audit_STORE_SYSTEM.")
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Is it the brain or the generator? Put every score beside nulls, baselines and limits, and say what is left.

    An interrupted command resumes where it was: run it again.
    """

    def work(output: Output) -> None:
        from neurorecon.analyses.audit import AuditSettings, compute_audit, compute_audit_of_images
        from neurorecon.analyses.evaluate import load_images
        from neurorecon.analyses.results import record_of, write
        from neurorecon.cli.common import (
            by_split,
            choose,
            folder_of_split,
            in_folders,
            results_folder,
            subjects_of,
            write_splits,
        )  # fmt: skip
        from neurorecon.parallel import Compute

        drawn_as = formats_of(formats)
        name, options = refined(system or "brain-diffuser", parameters_of(setting, preset=preset), refine)
        if images is not None and (system is not None or options):
            raise InputError(
                "images or a system are audited, not both",
                given=f"{images} and --system {system}"
                if system is not None
                else f"{images} and parameters of a system",
                expected="one of them",
                todo="leave one of them out",
            )
        if images is None and table is not None:
            raise InputError(
                "a table lists the files of a folder of images",
                given=f"--table {table}",
                expected="a folder of images",
                todo="name the folder: neurorecon audit FOLDER --table FILE",
            )
        name = "" if images is not None else name
        settings = AuditSettings(
            system=name, options=options, models=models, roi=rois_of(roi), task=task, metrics=metric or None,
            splits=None if split is None else tuple(one for one in split if one != "none"), n_stimuli=stimuli,
            n_permutations=permutations, n_refits=refits, n_bootstraps=bootstraps, seed=seed, seeds=seeds,
            device=device, source="" if images is None else without_folder(str(images)),
            **standardization_of(center, scale),
        )  # fmt: skip
        given = None if images is None else load_images(images, table)
        opened = choose(store, output, split_column=split_column, device=device)
        asked = [
            (images.resolve().stem if images is not None else Path(name).name), *(roi or []), task, models,
            *(f"{key}={value}" for key, value in options.items()),
        ]  # fmt: skip
        choices = [re.sub(r"[^\w.+-]+", "-", choice) for choice in asked if choice]
        folder = results_folder(out, "_".join(["audit", in_folders(opened, split_column), *choices]))
        output.keeps.append(folder)
        results: dict[str, list[Any]] = {}
        for column, chosen in by_split(split_column, opened, output):
            place, opened = folder_of_split(folder, split_column, column), chosen
            compute = Compute(folder=place / "parts", progress=output.progress)
            for person in subjects_of(opened, subject if given is None or subject else opened.subjects[:1]):
                found: Any
                if given is None:
                    found = compute_audit(opened, person, settings, compute)
                else:
                    found = compute_audit_of_images(opened, person, given, settings, compute)
                opened = output.use(found.source(opened))
                record = record_of(opened, command_line(), seed=seed)
                output.add_files(write(found, opened, place, record, figures=not no_figures, formats=drawn_as))
                output.add(found, opened)
                results.setdefault(column, []).append(found)
        write_splits(
            results, opened, output, folder, record_of(opened, command_line(), seed=seed), drawn_as, not no_figures
        )

    run_command("audit", as_json, quiet, verbose, work)


def shuffle(
    system: AuditedSystemOption = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="A target of the system, or 'frames'; may be given several times. Default: each, all of them, and the "
            "order of frames of videos.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Also shuffle frames of videos that are generated without this target."),
    ] = None,
    store: StoreOption = None,
    split_column: SplitColumnOption = None,
    models: ModelsOption = None,
    preset: PresetOption = None,
    setting: SetOption = None,
    refine: RefineOption = None,
    subject: SubjectsOption = None,
    roi: RoisOption = None,
    task: TaskOption = None,
    metric: MetricOption = None,
    stimuli: StimuliOption = None,
    center: CenterOption = "auto",
    scale: ScaleOption = "auto",
    permutations: Annotated[
        int,
        typer.Option("--permutations", min=1, help="Random exchanges of each target: as many images of each stimulus."),
    ] = 20,
    derangements: Annotated[
        int, typer.Option("--derangements", min=0, help="Control rows in which no stimulus keeps its target.")
    ] = 1,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results. Default: results/shuffle_STORE_SYSTEM.")
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Which decoded target carries which score? Exchange one at a time between stimuli, and generate again.

    An interrupted command resumes where it was: run it again.
    """

    def work(output: Output) -> None:
        from neurorecon.analyses.results import record_of, write
        from neurorecon.analyses.shuffle import ShuffleSettings, compute_shuffle
        from neurorecon.cli.common import choose, in_folders, results_folder, subjects_of
        from neurorecon.parallel import Compute

        drawn_as = formats_of(formats)
        name, options = refined(system or "brain-diffuser", parameters_of(setting, preset=preset), refine)
        settings = ShuffleSettings(
            system=name, options=options, models=models, roi=rois_of(roi), task=task, metrics=metric or None,
            targets=tuple(target) if target else None, without=tuple(without or ()), n_stimuli=stimuli,
            n_permutations=permutations,
            n_derangements=derangements, seed=seed, device=device, **standardization_of(center, scale),
        )  # fmt: skip
        opened = choose(store, output, split_column=split_column, device=device)
        asked = [Path(name).name, *(roi or []), task, models, *(f"{key}={value}" for key, value in options.items())]
        choices = [re.sub(r"[^\w.+-]+", "-", choice) for choice in asked if choice]
        folder = results_folder(out, "_".join(["shuffle", in_folders(opened), *choices]))
        output.keeps.append(folder)
        compute = Compute(folder=folder / "parts", progress=output.progress)
        for person in subjects_of(opened, subject):
            found = compute_shuffle(opened, person, settings, compute)
            opened = output.use(found.source(opened))
            record = record_of(opened, command_line(), seed=seed)
            output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))
            output.add(found, opened)

    run_command("shuffle", as_json, quiet, verbose, work)
