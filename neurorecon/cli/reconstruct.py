"""``neurorecon fit`` and ``neurorecon reconstruct``: fit a system, reconstruct what was seen, score it with a null."""

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
from neurorecon.cli.maps import command_line
from neurorecon.errors import InputError
from neurorecon.registry import METRICS, SYSTEMS

MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "-m",
        help=f"A metric; may be given several times: {', '.join(METRICS.builtin)} (k and n are numbers, as in 50_way "
        "and top5_of_100; 50_way_clip compares features of CLIP), or a metric of another package. Default: those of "
        "the system, else pixcorr and two_way.",
    ),
]
ExchangeOption = Annotated[
    str | None,
    typer.Option(
        "--exchange",
        help="How the null exchanges pairs: stimulus (freely), category, session or run (only within one), or shift "
        "(the order within runs is shifted). Default: what the design allows.",
    ),
]
SystemOption = Annotated[
    str,
    typer.Option(
        "--system",
        help=f"A system: {', '.join(SYSTEMS.builtin)}, another package's, or the folder of a fitted system; see "
        "`neurorecon systems`.",
    ),
]
ModelsOption = Annotated[
    str | None,
    typer.Option(
        "--models", metavar="NAME", help="Networks of the system and of metrics: bundled, published, or a folder."
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="Preset of the system, e.g. corrected, or released (what the authors' code does)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another parameter of the system; may be given several times."),
]
RefineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--refine",
        metavar="KEY=VALUE",
        help="Refine images by the likelihood of the measured response, e.g. best_of=8 or average=4 (docs/refinement); "
        "may be given several times.",
    ),
]
FormerOption = Annotated[list[str] | None, typer.Option("--option", metavar="KEY=VALUE", hidden=True)]
SubjectsOption = Annotated[
    list[str] | None,
    typer.Option("--subject", help="A subject; may be given several times. Default: all."),
]
RoisOption = Annotated[
    list[str] | None,
    typer.Option("--roi", "-r", help="An ROI, a union, one side, or a group; may be given several times."),
]
TaskOption = Annotated[str | None, typer.Option("--task", help="Default: the task with the most stimuli.")]
StimuliOption = Annotated[
    int | None,
    typer.Option("--stimuli", min=2, help="Use at most this many test stimuli, spread over categories. Default: all."),
]
TrainSessionsOption = Annotated[
    int | None,
    typer.Option(
        "--train-sessions", min=1, help="Fit to the first so many sessions with training stimuli. Default: all."
    ),
]
CenterOption = Annotated[
    str,
    typer.Option(
        "--center",
        metavar="COLUMN",
        help="Center responses within each session or run, or none. Default: by session where sessions are "
        "confounded with stimuli or splits.",
    ),
]
ScaleOption = Annotated[
    str, typer.Option("--scale", metavar="COLUMN", help="Scale responses likewise: session, run or none.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, torch (torch on the CPU), cuda or cuda:N.")]


def fit(
    store: StoreOption = None,
    split_column: SplitColumnOption = None,
    system: SystemOption = "linear-pixels",
    models: ModelsOption = None,
    preset: PresetOption = None,
    setting: SetOption = None,
    refine: RefineOption = None,
    option: FormerOption = None,
    subject: SubjectsOption = None,
    roi: RoisOption = None,
    task: TaskOption = None,
    train_sessions: TrainSessionsOption = None,
    center: CenterOption = "auto",
    scale: ScaleOption = "auto",
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of fits. Default: results/fits_STORE.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Fit the decoders of a reconstruction system to the training split; an interrupted fit resumes."""

    def work(output: Output) -> None:
        from neurorecon.analyses.design import ReconstructSettings
        from neurorecon.analyses.reconstruct import compute_fit
        from neurorecon.analyses.results import data_of, record_of, write_fit_manifest
        from neurorecon.cli.common import choose, in_folders, results_folder, subjects_of
        from neurorecon.parallel import Compute

        name, options = refined(system, parameters_of(setting, option, preset=preset), refine)
        settings = ReconstructSettings(
            system=name, options=options, models=models, roi=rois_of(roi), task=task, device=device,
            train_sessions=train_sessions, **standardization_of(center, scale),
        )  # fmt: skip
        opened = choose(store, output, split_column=split_column, device=device)
        folder = results_folder(out, f"fits_{in_folders(opened)}")
        output.keeps.append(folder)
        output.extra["fits"] = []
        for person in subjects_of(opened, subject):
            fitted, place = compute_fit(opened, person, settings, folder, Compute(progress=output.progress))
            # Targets that were missing are in a later snapshot.
            opened = output.use(opened.reopened(fitted.provenance_["snapshot"]))
            record = record_of(opened, command_line(), settings=fitted.provenance_)
            write_fit_manifest(place, fitted, record, data_of(opened))
            about = fitted.provenance_
            output.extra["fits"].append({"subject": person, "folder": str(place), **about})
            output.add_files([place])
            output.say(
                f"{person} · {opened.label} · {about['task']}: {fitted.name}, {', '.join(fitted.decoders_)} decoded "
                f"from {len(fitted.voxels_):,} voxels, {about['samples']:,} samples"
            )

    run_command("fit", as_json, quiet, verbose, work)


def reconstruct(
    store: StoreOption = None,
    split_column: SplitColumnsOption = None,
    system: SystemOption = "linear-pixels",
    models: ModelsOption = None,
    preset: PresetOption = None,
    setting: SetOption = None,
    refine: RefineOption = None,
    option: FormerOption = None,
    subject: SubjectsOption = None,
    roi: RoisOption = None,
    task: TaskOption = None,
    metric: MetricOption = None,
    stimuli: StimuliOption = None,
    train_sessions: TrainSessionsOption = None,
    single_trials: Annotated[
        bool,
        typer.Option(
            "--single-trials", help="Reconstruct each trial of the test split. Default: averages over repeats."
        ),
    ] = False,
    cross_validate: Annotated[
        str | None,
        typer.Option(
            "--cross-validate",
            help="Hold out one category (or stimulus, run, session) at a time. Default: training and test split.",
        ),
    ] = None,
    center: CenterOption = "auto",
    scale: ScaleOption = "auto",
    exchange: ExchangeOption = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations and of generated images.")] = 0,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", min=1, help="Generate with this many seeds, from --seed on; scores are averaged over them."
        ),
    ] = 1,
    controls: Annotated[
        bool | None,
        typer.Option(
            "--controls/--no-controls",
            help="Also generate and score controls: mean response, another trial, mean training image, oracle. "
            "Default: for systems with networks that generate images.",
        ),
    ] = None,
    device: DeviceOption = "cpu",
    decoders: Annotated[
        Path | None,
        typer.Option(
            "--decoders",
            help="Folder of fits: fits that are there are used, others are saved there. Default: use those that "
            "`neurorecon fit` wrote into results/fits_STORE, save none.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for the results. Default: results/reconstruct_STORE, then what is chosen."
        ),
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Reconstruct stimuli from brain responses, and score them with a null and p-values.

    What is not fitted yet is fitted. An interrupted command resumes where it was: run it again.
    """

    def work(output: Output) -> None:
        from neurorecon.analyses.design import ReconstructSettings
        from neurorecon.analyses.reconstruct import compute_reconstruction
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
        name, options = refined(system, parameters_of(setting, option, preset=preset), refine)
        settings = ReconstructSettings(
            system=name, options=options, models=models, roi=rois_of(roi), task=task, metrics=metric or None,
            cross_validate=cross_validate, exchange=exchange, n_permutations=permutations, n_stimuli=stimuli, seed=seed,
            seeds=seeds, single_trials=single_trials, controls=controls, device=device,
            train_sessions=train_sessions, **standardization_of(center, scale),
        )  # fmt: skip
        opened = choose(store, output, split_column=split_column, device=device)
        # Reconstructions of other voxels, samples or settings do not replace the ones that are there.
        asked = [
            *(roi or []), task, cross_validate, "single-trials" if single_trials else None, exchange, *(metric or []),
            models, *(f"{key}={value}" for key, value in options.items()), f"seeds={seeds}" if seeds > 1 else None,
            f"stimuli={stimuli}" if stimuli is not None else None,
            f"train-sessions={train_sessions}" if train_sessions is not None else None,
            *(f"{key}={value}" for key, value in (("center", center), ("scale", scale)) if value != "auto"),
        ]  # fmt: skip
        choices = [re.sub(r"[^\w.+-]+", "-", choice) for choice in asked if choice]
        several = len(set(split_column or [])) > 1
        folder = results_folder(out, "_".join(["reconstruct", in_folders(opened, split_column), *choices]))
        fits = folder / "fits" if several and decoders is None else decoders  # splits with equal training share a fit
        output.keeps += [folder, *([] if fits is None else [fits])]
        found: dict[str, list[Any]] = {}
        for split, chosen in by_split(split_column, opened, output):
            place, opened = folder_of_split(folder, split_column, split), chosen
            compute = Compute(folder=place / "parts", progress=output.progress)
            for person in subjects_of(opened, subject):
                one = compute_reconstruction(
                    opened, person, settings, compute, folder=fits,
                    reuse=Path("results") / f"fits_{in_folders(opened)}",
                )  # fmt: skip
                opened = output.use(one.source(opened))
                record = record_of(opened, command_line(), seed=seed)
                output.add_files(write(one, opened, place, record, figures=not no_figures, formats=drawn_as))
                output.add(one, opened)
                found.setdefault(split, []).append(one)
        write_splits(
            found, opened, output, folder, record_of(opened, command_line(), seed=seed), drawn_as, not no_figures
        )

    run_command("reconstruct", as_json, quiet, verbose, work)


def standardization_of(center: str, scale: str) -> dict[str, Any]:
    """Return what responses are centered and scaled within, as settings."""
    return {name: None if value == "none" else value for name, value in (("center", center), ("scale", scale))}


def rois_of(roi: list[str] | None) -> str | list[str] | None:
    """Return the ROIs that were named, as settings."""
    return roi[0] if roi is not None and len(roi) == 1 else roi


def refined(system: str, options: dict[str, Any], refine: list[str] | None) -> tuple[str, dict[str, Any]]:
    """Return the system to use and its parameters: the one that was named, or its refinement."""
    if not refine:
        return system, options
    return "refined", {"system": system, "options": options or None, **parameters_of(refine)}


def parameters_of(settings: list[str] | None, former: list[str] | None = None, **named: Any) -> dict[str, Any]:
    """Return ``KEY=VALUE`` options as parameters of a system.

    Parameters
    ----------
    settings : list of str or None
        Values are JSON if they can be parsed, else text.
    former : list of str or None
        The same, from the former option ``--option``.
    **named : str or None
        Parameters that have an option of their own.
    """
    import json
    import logging

    if former:
        logging.getLogger("neurorecon").warning("warning: --option is called --set now")
    found: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for option in [*(settings or []), *(former or [])]:
        key, equals, value = option.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(
                "this parameter of the system is not KEY=VALUE",
                given=option,
                expected="KEY=VALUE, e.g. alphas=[1,10,100] or guidance=5",
                todo="write the name of a parameter, an equals sign and a value",
            )
        if key in found:
            raise InputError(
                f"the parameter {key!r} of the system is given twice",
                given=f"{key}={found[key]} and {option}",
                expected="one value",
                todo="leave one of them out",
            )
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
