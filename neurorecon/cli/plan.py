"""``neurorecon plan``: estimate what encoding maps of a study take on a cluster, before there are data."""

from __future__ import annotations

from typing import Annotated

import typer

from neurorecon.cli.common import Output, run_command
from neurorecon.errors import InputError


def plan(
    subjects: Annotated[int, typer.Option("--subjects", min=1, help="Number of subjects.")] = 8,
    voxels: Annotated[int, typer.Option("--voxels", min=1, help="Voxels per subject.")] = 226_000,
    trials: Annotated[int, typer.Option("--trials", min=2, help="Stored trials (or volumes) per subject.")] = 30_000,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Repeats per stimulus, which are averaged.")] = 3,
    test_stimuli: Annotated[int, typer.Option("--test-stimuli", min=1, help="Stimuli of the test split.")] = 1000,
    features: Annotated[
        str, typer.Option("--features", help="Features of each band, separated by commas.")
    ] = "512,16384,91168,2139",
    delays: Annotated[
        int, typer.Option("--delays", min=1, help="Delays of the features; more than 1 for time series.")
    ] = 1,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Workers, with one job at a time each.")] = 32,
    memory: Annotated[float | None, typer.Option("--memory", min=0.1, help="Memory per worker in GiB.")] = None,
    voxel_block: Annotated[int | None, typer.Option("--voxel-block", min=1, help="Voxels per block.")] = None,
) -> None:
    """Estimate what encoding maps of a study take on a cluster; for a store, use `maps --dry-run`."""

    def work(output: Output) -> None:
        from neurorecon.analyses import plan as planning

        train = trials // repeats - test_stimuli
        if train < 1:
            raise InputError(
                "no stimuli are left for training",
                given=f"{trials} trials of {trials // repeats} stimuli, {test_stimuli} of them in the test split",
                expected="more stimuli than the test split has",
                todo="change --trials, --repeats or --test-stimuli",
            )
        widths = [part.strip() for part in features.split(",")]
        if not all(width.isdecimal() and int(width) > 0 for width in widths):
            raise InputError(
                "the features of the bands are not numbers",
                given=f"--features {features}",
                expected="a whole number for each band, separated by commas: 512,2139",
                todo="count the features of each target: neurorecon info",
            )
        shapes = [
            planning.Subject(f"subj{number + 1:02}", voxels, trials, train, test_stimuli, train, test_stimuli, delays)
            for number in range(subjects)
        ]
        found = planning.plan(shapes, list(map(int, widths)), n_permutations=permutations, voxel_block=voxel_block)
        output.say(planning.as_text(found, workers, None if memory is None else int(memory * 2**30)))

    run_command("plan", False, False, False, work)
