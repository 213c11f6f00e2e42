"""``neurorecon maps``: voxel-wise maps with statistics, as tables, brain images and figures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, StoreOption, VerboseOption, logger, run_command


def maps(
    store: StoreOption = None,
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="A subject; may be given several times. Left out: all."),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            "--roi",
            "-r",
            help="An ROI, a union V1+V2, one side lh.MT, or a group; may be given several times.",
        ),
    ] = None,
    bands: Annotated[
        list[str] | None,
        typer.Option(
            "--bands",
            "-b",
            help="Targets to use as bands (repeat, or separate by commas). Left out: clip_image, vqvae, vdvae, motion; "
            "of a store without them, what plays their roles, e.g. category and gabor.",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option("--kind", help="encoding (banded ridge, split R2), decoding (weights) or haufe (patterns)."),
    ] = "encoding",
    task: Annotated[
        str | None, typer.Option("--task", help="Left out: the task with most stimuli that have all bands.")
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    level: Annotated[float, typer.Option("--fdr", help="False discovery rate of the mask.")] = 0.05,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations and resampling.")] = 0,
    device: Annotated[
        str, typer.Option("--device", help="cpu, torch (torch on the processor), cuda or cuda:N.")
    ] = "cpu",
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            help="Who computes the blocks of voxels: local (this machine's processes), tcp://HOST:8786, or a "
            "scheduler's file (a dask cluster, e.g. on SLURM). Left out: this process. The numbers are the same.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads of each block. Left out: the cores of this machine."),
    ] = None,
    voxel_block: Annotated[
        int | None,
        typer.Option("--voxel-block", min=1, help="Voxels of a block; fewer take less memory, and longer."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what encoding maps would take (tasks, bytes, memory), and do nothing."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the results. Left out: results/maps_STORE, then the ROIs, bands and task asked for.",
        ),
    ] = None,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Tables and brain images only.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Map what each voxel encodes (or its weight in a decoder), with noise ceilings, permutation p and FDR."""

    def work(output: Output) -> None:
        from neurorecon.analyses.maps import maps as compute_maps
        from neurorecon.analyses.maps_files import write_maps
        from neurorecon.analyses.maps_text import as_text
        from neurorecon.analyses.plan import as_text as as_plan
        from neurorecon.analyses.plan import plan_maps
        from neurorecon.analyses.record import record_of
        from neurorecon.cli.common import choose, results_folder, subjects_of
        from neurorecon.parallel.jobs import FOLDER
        from neurorecon.parallel.workers import LOCAL, check_scheduler, connect

        # A cluster that does not answer shows before anything is read; processes of this machine are started late.
        elsewhere = None if scheduler == LOCAL else check_scheduler(scheduler)
        with connect(elsewhere) as client:
            opened = choose(store, output)
            names = subjects_of(opened, subject)
            wanted = [part for item in bands or [] for part in item.split(",") if part] or None
            picked = roi[0] if roi is not None and len(roi) == 1 else roi
            if dry_run:
                planned = plan_maps(opened, names, picked, bands=wanted, task=task, n_permutations=permutations,
                                    voxel_block=voxel_block)  # fmt: skip
                output.say(as_plan(planned, 1 if client is None else max(1, len(client.nthreads()))))
                return
            # Maps of videos, or of other bands, do not replace those of images.
            choices = [choice for choice in ("+".join(wanted or []), task) if choice]
            folder = results_folder(out, "_".join(["maps", opened.name, *(roi or ["all"]), *choices]))
            found = compute_maps(
                opened,
                names,
                picked,
                bands=wanted,
                kind=kind,  # type: ignore[arg-type]
                task=task,
                n_permutations=permutations,
                level=level,
                seed=seed,
                device=device,
                scheduler=scheduler if client is None else client,
                threads=threads,
                results=FOLDER,
                voxel_block=voxel_block,
                progress=output.progress,
            )
        for item in found:
            output.scores += item.scores
            output.say(as_text(item, opened))
        logger.info("writing tables, brain images and figures ...")
        record = record_of(opened, command_line(), seed=seed)
        output.add_files(write_maps(found, opened, folder, record, figures=not no_figures))

    run_command("maps", as_json, quiet, verbose, work)


def command_line() -> str:
    """Return the command as it was typed; of an absolute path only the last part is kept, as in all records."""
    return shlex.join(["neurorecon", *map(_without_folder, sys.argv[1:])])


def _without_folder(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{Path(value).name if Path(value).is_absolute() else value}"
