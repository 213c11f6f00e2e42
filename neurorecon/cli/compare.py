"""``neurorecon compare``: score several reconstructions of the same stimuli, side by side."""

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
from neurorecon.cli.evaluate import ExchangedSubjectOption, JudgesOption, PermutationsOption
from neurorecon.cli.maps import command_line, without_folder
from neurorecon.cli.reconstruct import DeviceOption, ExchangeOption, MetricOption


def compare(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]IMAGES...",
            help="Reconstructions of the same stimuli, in the order of the table: what `neurorecon evaluate` takes. "
            "NAME= is the name of the row; by default that of the folder.",
        ),
    ],
    reference: Annotated[
        list[str] | None,
        typer.Option("--reference", metavar="NAME", help="Compare all others with these; may be given several times."),
    ] = None,
    store: StoreOption = None,
    split_column: SplitColumnOption = None,
    metric: MetricOption = None,
    models: JudgesOption = None,
    device: DeviceOption = "cpu",
    exchange: ExchangeOption = None,
    subject: ExchangedSubjectOption = None,
    permutations: PermutationsOption = 1000,
    bootstraps: Annotated[
        int, typer.Option("--bootstraps", min=1, help="Bootstraps behind intervals and paired differences.")
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations and bootstraps.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results. Default: results/compare_STORE.")
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare systems: one table of scores with intervals and p-values, paired differences, and a contact sheet."""

    def work(output: Output) -> None:
        from neurorecon.analyses.controls import CONTROLS, CompareSettings, compute_comparison
        from neurorecon.analyses.evaluate import load_images
        from neurorecon.analyses.results import record_of, write
        from neurorecon.cli.common import choose, in_folders, results_folder
        from neurorecon.errors import InputError

        drawn_as = formats_of(formats)
        named = [one.rpartition("=") if not Path(one).exists() else ("", "", one) for one in images]
        rows = [name or Path(path).resolve().stem for name, _, path in named]
        for row in rows:
            if rows.count(row) > 1 or row in CONTROLS:
                raise InputError(
                    "each reconstruction needs a name of its own, and not that of a control",
                    given=row,
                    expected=f"different names, none of: {', '.join(CONTROLS)}",
                    todo="name them: neurorecon compare ridge=FOLDER gru=FOLDER",
                )
        settings = CompareSettings(
            source=" ".join(map(without_folder, images)), metrics=metric or None, models=models, device=device,
            exchange=exchange, subject=subject, n_permutations=permutations, n_bootstraps=bootstraps, seed=seed,
            references=tuple(reference or ()),
        )  # fmt: skip
        found_images = {}
        for row, (_, _, path) in zip(rows, named, strict=True):
            found = load_images(path)
            several = "seed" in found.dims
            found_images[row] = [found.isel(seed=n) for n in range(found.sizes["seed"])] if several else [found]
        opened = choose(store, output, split_column=split_column, device=device)
        folder = results_folder(out, f"compare_{in_folders(opened)}")
        result = compute_comparison(found_images, opened, settings, progress=output.progress)
        record = record_of(opened, command_line(), seed=seed)
        output.add_files(write(result, opened, folder, record, figures=not no_figures, formats=drawn_as))
        output.add(result, opened)

    run_command("compare", as_json, quiet, verbose, work)
