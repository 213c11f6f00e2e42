"""``neurorecon maps``: voxel-wise maps with statistics, as tables, brain images and figures."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurorecon.cli.common import (
    FormatOption,
    JsonOption,
    Output,
    QuietOption,
    SplitColumnsOption,
    StoreOption,
    VerboseOption,
    formats_of,
    logger,
    run_command,
)
from neurorecon.errors import InputError

if TYPE_CHECKING:
    from neurorecon.analyses.results import Result
    from neurorecon.store.store import Store


def maps(
    store: StoreOption = None,
    split_column: SplitColumnsOption = None,
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="A subject; may be given several times. Default: all."),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            "--roi",
            "-r",
            help="An ROI, a union V1+V2, one side lh.MT, or a group; may be given several times. Of --kind "
            "output: what is raised.",
        ),
    ] = None,
    bands: Annotated[
        list[str] | None,
        typer.Option(
            "--bands",
            "-b",
            help="Targets to use as bands (repeat, or separate by commas). Default: clip_image, vqvae, gabor, and for "
            "videos motion; in a store without them, targets of the same roles, e.g. category and vdvae.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="encoding (banded ridge, split R2), weights (of decoders, also called decoding) or haufe (patterns). "
            "Of a system: weights, gradient (of networks, too), product (of a network's weights, as Mind-Animator's "
            "code draws), haufe, importance (what the score loses without a voxel or an ROI) or output (what changes "
            "in generated images when the responses of an ROI are raised). "
            "Default: encoding, or weights of a system.",
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--system",
            help="Map the decoders of this system, or of the fitted system in this folder; see `neurorecon systems`.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option("--models", metavar="NAME", help="Networks of the system: bundled, published, or a folder."),
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Preset of the system.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another parameter of the system; may be given several times."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="Default: images before videos, then the task with the most training stimuli; with --bands, among the "
            "tasks whose stimuli have all of them.",
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate of the mask.")] = 0.05,
    null: Annotated[
        str,
        typer.Option(
            "--null",
            help="Of encoding maps: order (the test stimuli trade places) or refit (the training stimuli trade places, "
            "and the models are fitted again, which takes many times as long).",
        ),
    ] = "order",
    exchange: Annotated[
        str | None,
        typer.Option(
            "--exchange",
            help="What trades places in the null: stimulus, session (stimuli within sessions), run (whole runs) or "
            "shift (runs in a circle). Default: what the design allows; the text says which, and why.",
        ),
    ] = None,
    cross_validate: Annotated[
        str | None,
        typer.Option(
            "--cross-validate",
            help="Of encoding maps: hold out one run (session, stimulus) at a time, or a number of parts, and predict "
            "all samples. Default: fit on the training split, predict the test split.",
        ),
    ] = None,
    partition: Annotated[
        bool,
        typer.Option(
            "--partition",
            help="Also partition the variance: what only one band explains, and what several bands share.",
        ),
    ] = False,
    no_zscore: Annotated[
        bool,
        typer.Option(
            "--no-zscore",
            help="Of encoding maps: do not z-score features; within a band, those of large variance count for more.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations and resampling.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, torch (torch on the CPU), cuda or cuda:N.")] = "cpu",
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            help="What computes the blocks of voxels: local (processes on this machine), tcp://HOST:8786, or a "
            "scheduler file (a dask cluster, e.g. on SLURM). Default: this process. The numbers are the same.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads per block. Default: the cores of this machine."),
    ] = None,
    voxel_block: Annotated[
        int | None,
        typer.Option("--voxel-block", min=1, help="Voxels per block; small blocks take less memory and more time."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what encoding maps would take (jobs, bytes, memory), and stop."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the results. Default: results/maps_STORE, followed by the ROIs, bands and task.",
        ),
    ] = None,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Tables and brain images only.")] = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Map what each voxel encodes (or its weight in a decoder), with noise ceilings, permutation p and FDR."""

    def work(output: Output) -> None:
        from neurorecon.analyses.design import EncodingSettings
        from neurorecon.analyses.maps import compute_maps, map_settings
        from neurorecon.analyses.plan import as_text, plan_maps
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
        from neurorecon.cli.reconstruct import parameters_of
        from neurorecon.parallel import Compute
        from neurorecon.parallel.jobs import FOLDER
        from neurorecon.parallel.workers import LOCAL, check_scheduler, connect

        drawn_as = formats_of(formats)
        if len(set(split_column or [])) > 1 and (system is not None or kind not in (None, "encoding")):
            raise InputError(
                "only maps of what voxels encode are made for several splits at once",
                given=", ".join(split_column or []),
                expected="one split column",
                todo="run the command for each of them",
            )
        wanted = [part for item in bands or [] for part in item.split(",") if part] or None
        if system is not None:
            of_encoding = {
                "--bands": wanted, "--null": null != "order", "--cross-validate": cross_validate,
                "--partition": partition, "--no-zscore": no_zscore, "--scheduler": scheduler,
                "--voxel-block": voxel_block, "--dry-run": dry_run,
            }  # fmt: skip
            _refuse(of_encoding, "maps of a system", "leave them out, or leave --system out")
            _system_maps(
                output, store, split_column, subject, roi, out, drawn_as, no_figures, threads,
                system=system, kind={None: "weights", "decoding": "weights"}.get(kind, kind), models=models,
                options=parameters_of(setting, preset=preset), task=task, n_permutations=permutations, fdr=fdr,
                exchange=exchange, seed=seed, device=device,
            )  # fmt: skip
            return
        _refuse({"--models": models, "--preset": preset, "--set": setting}, "maps without a system", "add --system")
        settings = map_settings(
            kind or "encoding", wanted, roi=roi[0] if roi is not None and len(roi) == 1 else roi, task=task,
            n_permutations=permutations, fdr=fdr, null=null, exchange=exchange,
            cross_validate=int(cross_validate) if cross_validate and cross_validate.isdecimal() else cross_validate,
            partition=partition, seed=seed, device=device, voxel_block=voxel_block, standardize_features=not no_zscore,
        )  # fmt: skip
        # An unreachable cluster fails before anything is read; processes on this machine start late.
        elsewhere = None if scheduler == LOCAL else check_scheduler(scheduler)
        with connect(elsewhere) as client:
            here = None if scheduler is not None else device  # workers may have a GPU that this machine lacks
            opened = choose(store, output, split_column=split_column, device=here)
            names = subjects_of(opened, subject)
            if dry_run:
                if not isinstance(settings, EncodingSettings):
                    raise InputError("a dry run plans encoding maps", given=f"--kind {kind}", expected="encoding")
                planned = plan_maps(opened, names, settings)
                output.say(as_text(planned, 1 if client is None else max(1, len(client.nthreads()))))
                return
            # Maps of other tasks or bands, or with another null, get their own folder.
            raw = "no-zscore" if no_zscore else None
            asked = ("+".join(wanted or []), task, cross_validate, null if null != "order" else None, exchange, raw)
            choices = [choice for choice in asked if choice]
            named = ["maps", in_folders(opened, split_column), *(roi or ["all"]), *choices]
            folder = results_folder(out, "_".join(named))
            output.keeps.append(FOLDER)
            compute = Compute(scheduler if client is None else client, threads, FOLDER, output.progress)
            found: dict[str, tuple[Store, list[Result]]] = {}
            for split, chosen in by_split(split_column, opened, output):
                found[split] = chosen, compute_maps(chosen, names, settings, compute)
        for _, items in found.values():
            for item in items:
                output.add(item, opened)
        logger.info("writing tables, brain images and figures ...")
        own = {}
        for split, (chosen, items) in found.items():
            place, record = folder_of_split(folder, split_column, split), record_of(chosen, command_line(), seed=seed)
            output.add_files(write(items, chosen, place, record, figures=not no_figures, formats=drawn_as))
            own[split] = [item for item in items if item.kind == "encoding"]
        write_splits(own, chosen, output, folder, record, drawn_as, not no_figures)

    run_command("maps", as_json, quiet, verbose, work)


def _refuse(options: Mapping[str, Any], what: str, todo: str) -> None:
    """Refuse options that have no meaning for what was asked for."""
    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"these options are not for {what}", given=", ".join(given), expected="none", todo=todo)


def _system_maps(
    output: Output, store: str | None, split_column: list[str] | None, subject: list[str] | None, roi: list[str] | None,
    out: Path | None, drawn_as: list[str], no_figures: bool, threads: int | None, **asked: Any,
) -> None:  # fmt: skip
    """Map the decoders of a system, and write what was found."""
    from neurorecon.analyses.output_effects import OutputSettings, compute_output_effects
    from neurorecon.analyses.results import record_of, write
    from neurorecon.analyses.system_maps import SystemMapSettings, compute_system_map
    from neurorecon.cli.common import choose, in_folders, results_folder, subjects_of
    from neurorecon.parallel import Compute

    kind, exchange = asked.pop("kind"), asked.pop("exchange")
    asked["roi"] = roi[0] if roi is not None and len(roi) == 1 else roi
    if kind == "output":
        _refuse({"--exchange": exchange}, "effects on the output", "leave it out: signs are flipped by stimulus")
        settings: SystemMapSettings | OutputSettings = OutputSettings(**asked)
    else:
        settings = SystemMapSettings(kind=kind, exchange=exchange, **asked)
    opened = choose(store, output, split_column=split_column, device=settings.device)
    choices = [f"{key}={value}" for key, value in settings.options.items()]
    named = [Path(settings.system).name, kind, *(roi or ["all"]), settings.task, settings.models, *choices]
    name = "_".join(re.sub(r"[^\w.+-]+", "-", choice) for choice in ["maps", in_folders(opened), *named] if choice)
    folder = results_folder(out, name)
    for whose in subjects_of(opened, subject):
        compute = Compute(threads=threads, progress=output.progress)
        found: Result
        if isinstance(settings, OutputSettings):
            found = compute_output_effects(opened, whose, settings, compute)
        else:
            found = compute_system_map(opened, whose, settings, compute)
        opened = output.use(found.source(opened))
        output.add(found, opened)
        record = record_of(opened, command_line(), seed=settings.seed)
        output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))


def command_line() -> str:
    """Return the command as it was typed, with absolute paths cut to their last part, as in all records."""
    return shlex.join(["neurorecon", *map(without_folder, sys.argv[1:])])


def without_folder(argument: str) -> str:
    """Return an argument of a command without the folders of an absolute path in it: PATH, --option=PATH, NAME=PATH."""
    if Path(argument).is_absolute():
        return Path(argument).name
    name, equals, value = argument.partition("=")
    return f"{name}={without_folder(value)}" if equals else argument
