"""``neurorecon roi-optimal``: the images that ROIs prefer."""

from __future__ import annotations

import re
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
from neurorecon.cli.reconstruct import (
    CenterOption,
    DeviceOption,
    ModelsOption,
    PresetOption,
    ScaleOption,
    SetOption,
    SubjectsOption,
    SystemOption,
    TaskOption,
    parameters_of,
    standardization_of,
)


def roi_optimal(
    store: StoreOption = None,
    split_column: SplitColumnOption = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            "--roi", "-r", help="An ROI, a union, one side, or a group; may be given several times. Default: all."
        ),
    ] = None,
    system: SystemOption = "brain-diffuser",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="pattern (decode a brain in which only the ROI is active), stimuli (the mean target of the training "
            "stimuli that drive the ROI most) or gradient (ascent on the encoding model, through the generator).",
        ),
    ] = "pattern",
    models: ModelsOption = None,
    preset: PresetOption = None,
    setting: SetOption = None,
    subject: SubjectsOption = None,
    within: Annotated[
        list[str] | None,
        typer.Option("--within", metavar="ROI", help="Voxels that the system is fitted to. Default: all."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="A target of the system to generate from; may be given several times. Default: all.",
        ),
    ] = None,
    factor: Annotated[
        float, typer.Option("--factor", help="Distance from the mean target, in typical distances of training targets.")
    ] = 1.5,
    share: Annotated[float, typer.Option("--share", help="Share of the training stimuli (method stimuli).")] = 0.05,
    relative: Annotated[
        bool, typer.Option("--relative", help="Rank stimuli by the ROI minus all other voxels (method stimuli).")
    ] = False,
    mean_of: Annotated[
        str, typer.Option("--mean-of", help="Average true or decoded targets (method stimuli).")
    ] = "true",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the ascent (method gradient).")] = 20,
    band: Annotated[
        list[str] | None,
        typer.Option("--band", help="A target of the encoding model. Default: clip_image and gabor."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="METRIC",
            help="A metric whose network names the category of an image. Default: probe for drawn scenes, else none.",
        ),
    ] = None,
    random_sets: Annotated[
        int, typer.Option("--random-sets", min=0, help="Random sets of as many voxels: the null of the verdicts.")
    ] = 0,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Images of each ROI.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first seed.")] = 0,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind the p-values of the encoding model.")
    ] = 1000,
    task: TaskOption = None,
    center: CenterOption = "auto",
    scale: ScaleOption = "auto",
    device: DeviceOption = "cpu",
    decoders: Annotated[
        Path | None,
        typer.Option("--decoders", help="Folder of fits, to load from and to save to. Default: results/fits_STORE."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for the results. Default: results/roi-optimal_STORE, then what is chosen."
        ),
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Generate the images that ROIs prefer, beside the responses that an encoding model predicts, and a judge.

    An interrupted command resumes where it was: run it again.
    """

    def work(output: Output) -> None:
        from neurorecon.analyses.response_model import BANDS
        from neurorecon.analyses.results import record_of, write
        from neurorecon.analyses.roi_optimal import compute_roi_optimal
        from neurorecon.analyses.roi_targets import RoiOptimalSettings
        from neurorecon.cli.common import choose, in_folders, results_folder, subjects_of
        from neurorecon.parallel import Compute

        drawn_as = formats_of(formats)
        options = parameters_of(setting, preset=preset)
        settings = RoiOptimalSettings(
            roi=roi or None, within=within or None, system=system, options=options, models=models, method=method,  # type: ignore[arg-type]
            targets=target or None, factor=factor, share=share, relative=relative, mean_of=mean_of,  # type: ignore[arg-type]
            steps=steps, bands=band or BANDS, judge=judge, random_sets=random_sets, seeds=seeds, seed=seed,
            n_permutations=permutations, task=task, device=device, **standardization_of(center, scale),
        )  # fmt: skip
        opened = choose(store, output, split_column=split_column, device=device)
        # Images of other ROIs, voxels or settings do not replace the ones that are there.
        asked = [
            *(roi or []), None if method == "pattern" else method, *(within or []), task, *(target or []), models,
            *(f"{key}={value}" for key, value in options.items()),
            *(f"{key}={value}" for key, value, usual in (
                ("factor", factor, 1.5), ("share", share, 0.05), ("relative", relative, False), ("seeds", seeds, 8),
                ("seed", seed, 0), ("mean", mean_of, "true"), ("random", random_sets, 0), ("center", center, "auto"),
                ("scale", scale, "auto"), ("steps", steps, 20)) if value != usual),
        ]  # fmt: skip
        choices = [re.sub(r"[^\w.+-]+", "-", choice) for choice in asked if choice]
        folder = results_folder(out, "_".join(["roi-optimal", in_folders(opened), *choices]))
        output.keeps += [folder, *([] if decoders is None else [decoders])]
        compute = Compute(folder=folder / "parts", progress=output.progress)
        for name in subjects_of(opened, subject):
            found = compute_roi_optimal(
                opened, name, settings, compute, folder=decoders, reuse=Path("results") / f"fits_{in_folders(opened)}"
            )
            opened = output.use(found.source(opened))
            record = record_of(opened, command_line(), seed=seed)
            output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))
            output.extra.setdefault("rois", []).extend(
                {"subject": name, **row} for row in found.summary().to_dict("records")
            )
            output.add(found, opened)

    run_command("roi-optimal", as_json, quiet, verbose, work)
