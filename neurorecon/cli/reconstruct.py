"""``neurorecon reconstruct``: reconstruct what was seen, beside its permutation null."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, StoreOption, VerboseOption, run_command
from neurorecon.cli.maps import command_line


def reconstruct(
    store: StoreOption = None,
    system: Annotated[str, typer.Option("--system", help="The system: linear-pixels.")] = "linear-pixels",
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", help="A subject; may be given several times. Left out: all."),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option("--roi", "-r", help="An ROI, a union, one side, or a group; may be given several times."),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Left out: the task with the most stimuli.")] = None,
    cross_validate: Annotated[
        str | None,
        typer.Option(
            "--cross-validate",
            help="Leave one category (or stimulus, run, session) out at a time. Left out: train and test split.",
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Permutations behind each p-value.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations.")] = 0,
    device: Annotated[
        str, typer.Option("--device", help="cpu, torch (torch on the processor), cuda or cuda:N.")
    ] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Reconstruct stimuli from brain responses; each score stands beside its permutation null and p."""

    def work(output: Output) -> None:
        from neurorecon.analyses.reconstruct import reconstruct as run
        from neurorecon.analyses.reconstruct import settings_sentence, write_reconstruction
        from neurorecon.analyses.record import record_of
        from neurorecon.cli.common import choose, results_folder, subjects_of

        opened = choose(store, output)
        folder = results_folder(out, f"reconstruct_{opened.name}")
        chosen = roi[0] if roi is not None and len(roi) == 1 else roi
        for name in subjects_of(opened, subject):
            found = run(
                opened,
                system,
                name,
                chosen,
                task=task,
                cross_validate=cross_validate,
                n_permutations=permutations,
                seed=seed,
                device=device,
            )
            record = record_of(opened, command_line(), seed=seed, settings=found.settings)
            output.add_files(write_reconstruction(found, opened, folder, record))
            output.scores += found.scores
            label = "SIMULATED responses" if opened.simulated else "measured responses"
            output.say(f"\n{name} · {opened.name} ({label}) · {found.task}")
            output.say(settings_sentence(found))
            output.say(f"{'score':<40}{'value':>8}{'null mean':>11}{'null max':>10}{'p':>8}{'n':>6}{'mean image':>12}")
            for score in found.scores:
                mean_image = "-" if score["baseline"] is None else f"{score['baseline']:.3f}"
                label = score["name"].split(" ", 1)[1].replace("_", " ")
                output.say(
                    f"{label:<40}{score['value']:>8.3f}{score['null_mean']:>11.3f}{score['null_max']:>10.3f}"
                    f"{score['p']:>8.3f}{score['n']:>6}{mean_image:>12}"
                )

    run_command("reconstruct", as_json, quiet, verbose, work)
