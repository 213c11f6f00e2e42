"""``neurorecon reconstruct``: reconstruct what was seen, and score it with a null."""

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
        help=f"A metric; may be given several times: {', '.join(METRICS.builtin)} (n is a number, as in 50_way), or "
        "a metric of another package. Default: those of the system, else pixcorr and two_way.",
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


def reconstruct(
    store: StoreOption = None,
    system: Annotated[
        str,
        typer.Option(
            "--system",
            help=f"A system: {', '.join(SYSTEMS.builtin)}, another package's, or the folder of a fitted system.",
        ),
    ] = "linear-pixels",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="A parameter of the system, KEY=VALUE; may be given several times."),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="A subject; may be given several times. Default: all."),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option("--roi", "-r", help="An ROI, a union, one side, or a group; may be given several times."),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Default: the task with the most stimuli.")] = None,
    metric: MetricOption = None,
    cross_validate: Annotated[
        str | None,
        typer.Option(
            "--cross-validate",
            help="Hold out one category (or stimulus, run, session) at a time. Default: training and test split.",
        ),
    ] = None,
    exchange: ExchangeOption = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations and of generated images.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, torch (torch on the CPU), cuda or cuda:N.")] = "cpu",
    decoders: Annotated[
        Path | None,
        typer.Option(
            "--decoders",
            help="Folder for fitted decoders: an interrupted fit resumes, and --system reads its subfolders.",
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
    """Reconstruct stimuli from brain responses, and score them with a null and p-values."""

    def work(output: Output) -> None:
        from neurorecon.analyses.design import ReconstructSettings
        from neurorecon.analyses.reconstruct import compute_reconstruction
        from neurorecon.analyses.results import record_of, write
        from neurorecon.cli.common import choose, results_folder, subjects_of

        drawn_as = formats_of(formats)
        settings = ReconstructSettings(
            system=system, options=parameters_of(option), roi=roi[0] if roi is not None and len(roi) == 1 else roi,
            task=task, metrics=metric or None, cross_validate=cross_validate, exchange=exchange,
            n_permutations=permutations, seed=seed, device=device,
        )  # fmt: skip
        opened = choose(store, output)
        # Reconstructions of other voxels, samples or settings do not replace the ones that are there.
        asked = [*(roi or []), task, cross_validate, exchange, *(metric or []), *(option or [])]
        choices = [re.sub(r"[^\w.+-]+", "-", choice) for choice in asked if choice]
        folder = results_folder(out, "_".join(["reconstruct", opened.name, *choices]))
        if decoders is not None:
            output.keeps.append(decoders)
        for name in subjects_of(opened, subject):
            kept = None if decoders is None else decoders / name
            found = compute_reconstruction(opened, name, settings, folder=kept)
            record = record_of(opened, command_line(), seed=seed)
            output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))
            output.add(found, opened)

    run_command("reconstruct", as_json, quiet, verbose, work)


def parameters_of(options: list[str] | None) -> dict[str, Any]:
    """Return ``KEY=VALUE`` options as parameters; values are JSON if they can be parsed, else text."""
    import json

    found: dict[str, Any] = {}
    for option in options or []:
        key, equals, value = option.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(
                "this option of the system is not KEY=VALUE",
                given=option,
                expected="KEY=VALUE, e.g. alphas=[1,10,100] or models=published",
                todo="write the name of a parameter, an equals sign and a value",
            )
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
