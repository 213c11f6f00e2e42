"""``neurorecon features``: compute targets for the stimuli of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurorecon.cli.common import JsonOption, Output, QuietOption, StoreOption, VerboseOption, run_command
from neurorecon.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from neurorecon.features.extract import Speed
    from neurorecon.store.store import Store


def features(
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="NAME",
            help="Target to compute; repeat for several, or use 'all' for every target that the store allows. "
            "Default: list the targets.",
        ),
    ] = None,
    store: StoreOption = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="NAME",
            help="Networks to use: bundled, published, or a folder that holds networks. Measured data need a choice, "
            "because the bundled networks know drawn scenes only. Default for simulated data: bundled.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="cpu, cuda, cuda:N or mps. Default: the GPU if there is one, or else cpu.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="DTYPE",
            help="float32, bfloat16, float16, or auto, which chooses by device. Default: float32.",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, metavar="N", help="Stimuli per batch. Default: chosen by target.")
    ] = None,
    groups: Annotated[
        int | None,
        typer.Option(
            "--groups",
            min=1,
            metavar="N",
            help="Number of VDVAE latent groups to keep. Default: all up to half of the image resolution.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            metavar="N",
            help="Sample the vdvae and vqvae latents with this seed. Default: take the posterior mean.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Where to compute: local (processes on this machine), or a dask cluster, as tcp://HOST:8786 or a "
            "scheduler file. Default: this process.",
        ),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Store features of your own instead, as a target NAME: .npy, .npz, .csv, .tsv or .parquet, with one "
            "row per stimulus.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="With --from: the name of the target.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAMES",
            help="With --from, of a table: its columns, separated by commas. Default: all but the ids.",
        ),
    ] = None,
    stimuli: Annotated[
        str | None,
        typer.Option(
            "--stimuli",
            metavar="IDS",
            help="With --from: a text file with the stimulus id of each row, or the column of a table that holds the "
            "ids. Default: the column stimulus or id; of an array, the order of the store.",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="NAME", help="With --from, of .npz: which of its arrays.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="With --from: allow stimuli of the store that the file lacks.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace stored targets that were computed with other settings.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compute targets (clip_vision, vqvae, motion, ...) for the stimuli of a store, or store features of your own.

    Without --target or --from, lists the targets in the store and those that can be computed.
    """

    def work(output: Output) -> None:
        from neurorecon.cli.common import choose, committed
        from neurorecon.features.base import PRECISIONS
        from neurorecon.features.extract import chosen_targets, extract
        from neurorecon.parallel import is_first_process
        from neurorecon.parallel.workers import choose_device
        from neurorecon.registry import FEATURES

        with_file = {"--name": name, "--columns": columns, "--stimuli": stimuli, "--key": key, "--partial": partial}
        if own is None and any(with_file.values()):
            raise InputError(
                "these options belong to features of your own",
                given=", ".join(option for option, value in with_file.items() if value),
                expected="a file: --from FILE --name NAME",
                todo="add --from, or leave them out",
            )
        if own is not None and (name is None or target or models):
            raise InputError(
                "features of your own need a name, and nothing is computed",
                given=f"--from {own}" + (f" --target {' '.join(target)}" if target else "")
                + (f" --models {models}" if models else ""),
                expected="--from FILE --name NAME",
                todo="add --name, and leave out --target and --models",
            )  # fmt: skip
        for wanted_target in target or []:
            if wanted_target != "all":
                FEATURES.load(wanted_target)
        if precision is not None and precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        if device is not None:
            choose_device(device)
        opened = choose(store, output)
        output.keeps.append(committed(opened.location))
        if own is not None and name is not None:
            from neurorecon.features.own import add_target

            wanted = None if columns is None else [part.strip() for part in columns.split(",") if part.strip()]
            opened = add_target(
                opened, name, own, columns=wanted, stimuli=stimuli, key=key, partial=partial, overwrite=overwrite
            )
            _say_what_was_computed(output.use(opened), [name], [], output, f"stored, from {own.name}")
            return
        if not target:
            _say_what_there_is(opened, output)
            return
        names = [str(name) for name in chosen_targets(opened, target)]
        speeds: list[Speed] = []
        opened = extract(
            opened,
            names,
            models=models,
            device=device,
            precision=precision,
            batch=batch,
            overwrite=overwrite,
            progress=output.progress,
            scheduler=scheduler,
            report=speeds.append,
            groups=groups,
            seed=seed,
        )
        if not is_first_process():
            raise typer.Exit
        _say_what_was_computed(output.use(opened), names, speeds, output)

    run_command("features", as_json, quiet, verbose, work)


def _say_what_there_is(store: Store, output: Output) -> None:
    from neurorecon.registry import FEATURES

    output.extra["targets"] = {"available": store.targets_available, "known": FEATURES.names()}
    output.say(f"in the store: {', '.join(store.targets_available) or 'none'}")
    output.say(f"can be computed (--target NAME): {', '.join(FEATURES.names())}")


def _say_what_was_computed(
    store: Store, names: list[str], speeds: list[Speed], output: Output, otherwise: str = "already in the store"
) -> None:
    quickness = {speed.target: speed for speed in speeds}
    output.extra["targets"] = {}
    for name in names:
        values, speed = store.targets(name), quickness.get(name)
        shape = " x ".join(str(size) for size in values.shape)
        said = otherwise if speed is None else f"{speed.stimuli:,} stimuli, {speed.per_second:,.1f} per second"
        output.say(f"{name}: {shape} ({', '.join(map(str, values.dims))}); {said}")
        output.extra["targets"][name] = {
            "shape": list(values.shape),
            "dims": [str(name) for name in values.dims],
            "computed": 0 if speed is None else speed.stimuli,
            "seconds": 0.0 if speed is None else round(speed.seconds, 3),
            "stimuli_per_second": None if speed is None else round(speed.per_second, 2),
            "made_by": dict(values.attrs),
        }
