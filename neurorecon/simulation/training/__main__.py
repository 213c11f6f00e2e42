"""``python -m neurorecon.simulation.training NAME``: train, judge and publish a bundled network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurorecon.errors import NeuroreconError

NAMES = ("probe", "clip", "autoencoder", "vdvae", "gist", "details", "diffusion")

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help=f"Which network: {', '.join(NAMES)}.")],
    folder: Annotated[
        Path, typer.Option(help="Where scenes, checkpoints and logs are kept; a training goes on from there.")
    ] = Path(".neurorecon/training"),
    out: Annotated[
        Path | None, typer.Option(help="Where the weights go; by default among those that neurorecon ships.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; the next run goes on.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16: mixed precision of accelerate.")] = "no",
    threads: Annotated[int | None, typer.Option(help="Threads of torch on a CPU.")] = None,
    only: Annotated[
        str | None,
        typer.Option(help="train, publish (weights of the last checkpoint) or judge (the shipped weights)."),
    ] = None,
    shipped: Annotated[
        bool, typer.Option("--from-shipped", help="Begin with the weights that neurorecon ships, not with random ones.")
    ] = False,
    images: Annotated[
        int, typer.Option(min=50, max=1200, help="Images generated to judge the diffusion, of each kind.")
    ] = 500,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Train a bundled network on procedural scenes, publish its weights, and hold it against its bars.

    Networks stand on each other: autoencoder and clip come before diffusion, the probe judges all; gist
    and details teach groups of the VDVAE once more.
    """
    from neurorecon.hub import BUNDLED
    from neurorecon.simulation.training.loop import Run
    from neurorecon.simulation.training.steps import judge, publish, train_network

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    run = Run(folder, device=device, precision=precision, minutes=minutes, progress=not quiet, images=images)
    try:
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
