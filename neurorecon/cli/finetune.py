"""``neurorecon finetune``: fine-tune a diffusion network on the training stimuli of a store."""

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
from neurorecon.cli.maps import command_line
from neurorecon.cli.reconstruct import DeviceOption


def finetune(
    network: Annotated[
        str,
        typer.Option("--network", help="text-diffusion (of takagi) or dual-diffusion (of brain-diffuser)."),
    ] = "text-diffusion",
    store: StoreOption = None,
    split_column: SplitColumnOption = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="NAME",
            help="Weights to start from: bundled, published, or a folder. Measured data need a choice. Default for "
            "simulated data: bundled.",
        ),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of the change of each layer.")] = 16,
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="The change is multiplied by alpha / rank. Default: by 1.")
    ] = None,
    layers: Annotated[
        str, typer.Option("--layers", help="Layers that change: attention, or all (also convolutions).")
    ] = "attention",
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Highest learning rate of AdamW.")] = 1e-4,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Stimuli in a batch.")] = 16,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs at most.")] = 20,
    patience: Annotated[
        int, typer.Option("--patience", min=1, help="Stop after this many epochs without a lower validation loss.")
    ] = 3,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Share of the training stimuli that are held out for validation.")
    ] = 0.1,
    corrupted: Annotated[
        float,
        typer.Option("--corrupted", help="Share of a batch with contexts that are corrupted as decoding does."),
    ] = 0.5,
    text_ratio: Annotated[
        float, typer.Option("--text-ratio", help="Of dual-diffusion: weight of the text, as in the system.")
    ] = 0.4,
    precision: Annotated[
        str, typer.Option("--precision", metavar="DTYPE", help="float32, bf16 or fp16, on a GPU.")
    ] = "float32",
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Need less memory, and more time.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of batches, noise and first weights.")] = 0,
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the adapter. Default: results/finetune_STORE_NETWORK."),
    ] = None,
    no_figures: NoFiguresOption = False,
    formats: FormatOption = "png",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Fine-tune a diffusion network on the training stimuli of a store: a low-rank adapter (needs the extra peft).

    Reconstruct with it: neurorecon reconstruct --system takagi --set adapter=FOLDER. An interrupted command resumes
    where it was: run it again.
    """

    def work(output: Output) -> None:
        from neurorecon.analyses.finetune import FinetuneSettings, compute_finetuning
        from neurorecon.analyses.results import record_of, write
        from neurorecon.cli.common import choose, in_folders, results_folder

        drawn_as = formats_of(formats)
        settings = FinetuneSettings(
            network=network, models=models, rank=rank, alpha=alpha, layers=layers,  # type: ignore[arg-type]
            learning_rate=learning_rate, batch_size=batch, epochs=epochs, patience=patience, held_out=held_out,
            corrupted=corrupted, text_ratio=text_ratio, precision=precision, checkpointing=checkpointing,
            seed=seed, device=device,
        )  # fmt: skip
        opened = choose(store, output, split_column=split_column, device=device)
        folder = results_folder(out, f"finetune_{in_folders(opened)}_{network}")
        output.keeps.append(folder)
        found = compute_finetuning(opened, settings, folder, progress=output.progress)
        opened = output.use(found.source(opened))
        record = record_of(opened, command_line(), seed=seed)
        output.add_files(write(found, opened, folder, record, figures=not no_figures, formats=drawn_as))
        output.extra |= {"network": network, "folder": str(folder), **found.chosen}
        output.add(found, opened)

    run_command("finetune", as_json, quiet, verbose, work)
