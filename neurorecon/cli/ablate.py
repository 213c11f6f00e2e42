"""``neurorecon ablate``: what each part of a system contributes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.audit import AuditedSystemOption, SeedOption
from neurorecon.cli.common import (
    FormatOption,
    JsonOption,
    NoFiguresOption,
    Output,
    QuietOption,
    StoreOption,
    VerboseOption,
    formats_of,
    run_command,
)
from neurorecon.cli.evaluate import PermutationsOption
from neurorecon.cli.maps import command_line
from neurorecon.cli.reconstruct import (
    CenterOption,
    DeviceOption,
    ExchangeOption,
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


def ablate(
    system: AuditedSystemOption = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="NAME[=VALUES]",
            help="What to vary, may be given several times: targets, stages, rois, noise, strength, groups, k, "
            "first-stage, guidance, stimuli, sessions, trials, subjects, or a parameter of the system. Values are "
            "separated by commas: rois=V1,FFA. Default: targets and stages.",
        ),
    ] = None,
    store: StoreOption = None,
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
    permutations: PermutationsOption = 1000,
    exchange: ExchangeOption = None,
    bootstraps: Annotated[
        int, typer.Option("--bootstraps", min=1, help="Bootstraps behind intervals and paired differences.")
    ] = 10_000,
    seed: SeedOption = 0,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Reconstruct with this many seeds; scores are averaged over them.")
    ] = 1,
    device: DeviceOption = "cpu",
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            help="What computes the cells: local (processes on this machine), tcp://HOST:8786, or a scheduler file (a "
            "dask cluster, e.g. on SLURM). Default: this process.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads per cell. Default: the cores of this machine.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results. Default: results/ablate_STORE_SYSTEM.")
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """What does each part of a system contribute? Vary one thing at a time, and compare with the full system.

    An interrupted command resumes where it was: run it again. Cells that are there are used again if more is varied.
    """

    def work(output: Output) -> None:
        from neurorecon.analyses.ablate import DEFAULT, AblateSettings, compute_ablation
        from neurorecon.analyses.results import record_of, write
        from neurorecon.cli.common import choose, results_folder, subjects_of
        from neurorecon.parallel import Compute
        from neurorecon.parallel.workers import LOCAL, check_scheduler, connect

        drawn_as = formats_of(formats)
        name, options = refined(system or "brain-diffuser", parameters_of(setting, preset=preset), refine)
        settings = AblateSettings(
            system=name, options=options, models=models, roi=rois_of(roi), task=task, metrics=metric or None,
            vary=tuple(vary) if vary else DEFAULT, n_stimuli=stimuli, n_permutations=permutations, exchange=exchange,
            n_bootstraps=bootstraps, seed=seed, seeds=seeds, device=device, **standardization_of(center, scale),
        )  # fmt: skip
        # An unreachable cluster fails before anything is read; processes on this machine start late.
        with connect(None if scheduler == LOCAL else check_scheduler(scheduler)) as client:
            opened = choose(store, output, device=device if scheduler is None else None)
            asked = [Path(name).name, *(roi or []), task, models, *(f"{key}={value}" for key, value in options.items())]
            choices = [re.sub(r"[^\w.+-]+", "-", choice) for choice in asked if choice]
            folder = results_folder(out, "_".join(["ablate", opened.name, *choices]))
            output.keeps.append(folder)
            compute = Compute(scheduler if client is None else client, threads, folder / "parts", output.progress)
            for person in subjects_of(opened, subject):
                found = compute_ablation(opened, person, settings, compute)
                opened = output.use(found.source(opened))
                record = record_of(opened, command_line(), seed=seed)
                output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))
                output.add(found, opened)

    run_command("ablate", as_json, quiet, verbose, work)
