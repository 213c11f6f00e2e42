"""``python -m neurorecon.simulation.training NAME``: train, judge and publish a bundled network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.errors import NeuroreconError

NAMES = ("probe", "clip", "autoencoder", "vdvae", "gist", "details", "diffusion", "image_branch", "motion")

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help=f"Which network: {', '.join(NAMES)}.")],
    folder: Annotated[
        Path, typer.Option(help="Folder of scenes, checkpoints and logs; an interrupted training resumes from it.")
    ] = Path(".neurorecon/training"),
    out: Annotated[
        Path | None, typer.Option(help="Folder for the weights; by default that of the bundled weights.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this many minutes; the next run resumes.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    precision: Annotated[str, typer.Option(help="Mixed precision of accelerate: no, bf16 or fp16.")] = "no",
    threads: Annotated[int | None, typer.Option(help="Number of torch threads on a CPU.")] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Only one step: train, publish (the last checkpoint) or judge (the bundled weights)."),
    ] = None,
    shipped: Annotated[
        bool, typer.Option("--from-shipped", help="Start from the bundled weights instead of random ones.")
    ] = False,
    images: Annotated[
        int,
        typer.Option(min=50, max=1200, help="Images to generate per condition when judging the diffusion networks."),
    ] = 500,
    quiet: Annotated[bool, typer.Option("--quiet", help="Hide progress bars.")] = False,
) -> None:
    """Train a bundled network on procedural scenes, publish its weights, and test it on held-out scenes.

    Train autoencoder and clip before diffusion, which uses them, and the probe first, because it judges all others.
    motion, the prior of how scenes move, needs the autoencoder; its last checkpoint is published.
    gist and details retrain groups of the VDVAE, image_branch the image branch of the diffusion, from bundled weights.
    """
    from neurorecon.hub import BUNDLED
    from neurorecon.simulation.training.loop import Run
    from neurorecon.simulation.training.steps import judge, publish, train_network

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    run = Run(folder, device=device, precision=precision, minutes=minutes, progress=not quiet, images=images)
    try:
        if name == "motion":
            from neurorecon.simulation.training.motion import publish_motion, train_motion

            if only in (None, "train"):
                train_motion(run)
            if only in (None, "publish"):
                typer.echo(f"explained of what moves in held-out clips: {publish_motion(run, out or BUNDLED):.3f}")
            return
        if only in (None, "train"):
            train_network(name, run, (out or BUNDLED) if shipped else None)
        if only in (None, "publish"):
            publish(name, run, out)
        if only in (None, "judge"):
            met = judge(name, run, out)
            raise typer.Exit(0 if met else 1)
    except NeuroreconError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
