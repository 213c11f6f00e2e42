"""Which trials train and which test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.images import damaged
from neurorecon.datasets.nsd.annotations import Annotations
from neurorecon.datasets.nsd.options import NsdOptions
from neurorecon.datasets.splits import LEFT_OUT, cluster_texts, hold_out_groups, hold_out_sessions, hold_out_stimuli
from neurorecon.errors import InputError, MissingFileError, UnknownNameError


def split_trials(
    trials: dict[str, pd.DataFrame], annotations: Annotations, options: NsdOptions, root: Path
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, str]]]:
    """Return the split of each trial, ``""`` where it has to be left out, and what to report.

    Parameters
    ----------
    trials : dict of str to DataFrame
        For each subject, from the design.
    annotations : Annotations
        Captions and objects.
    options : NsdOptions
        Which split.
    root : path
        Tables in the options count from here.
    """
    if options.split == "shared1000":
        found = {name: _shared(table, options.test_repeats) for name, table in trials.items()}
    elif options.split == "sessions":
        found = _sessions(trials, options)
    else:
        pictures = np.unique(np.concatenate([table["nsdId"].to_numpy() for table in trials.values()]))
        choose = _clusters if options.split == "clusters" else _category
        held_out = choose(pictures, annotations, options, root)
        found = {name: hold_out_stimuli(table["nsdId"].to_numpy(), held_out) for name, table in trials.items()}
    _check(found, options)
    return found, {name: _report(split, trials[name], options) for name, split in found.items()}


def _shared(trials: pd.DataFrame, repeats: int) -> np.ndarray:
    """Test on the shared pictures; those that were not shown often enough neither train nor test."""
    shown = trials.groupby("nsdId")["nsdId"].transform("size").to_numpy()
    split = hold_out_stimuli(trials["nsdId"].to_numpy(), set(trials["nsdId"][trials["shared"]]))
    split[trials["shared"].to_numpy() & (shown < repeats)] = LEFT_OUT
    return split


def _sessions(trials: dict[str, pd.DataFrame], options: NsdOptions) -> dict[str, np.ndarray]:
    read = sorted(set().union(*(table["session"] for table in trials.values())))
    absent = [number for number in options.test_sessions if number not in read]
    if absent:
        raise UnknownNameError("session to test on", absent[0], read)
    tables = {name: table.rename(columns={"nsdId": "stimulus"}) for name, table in trials.items()}
    return hold_out_sessions(tables, options.test_sessions)


def _clusters(pictures: np.ndarray, annotations: Annotations, options: NsdOptions, root: Path) -> set[int]:
    if options.cluster_table:
        table = _table(root / options.cluster_table, "cluster").drop_duplicates("nsdId").set_index("nsdId")["cluster"]
        absent = [int(number) for number in pictures if number not in table.index]
        if absent:
            raise InputError(
                f"{root / options.cluster_table} misses pictures",
                given=f"no row for {len(absent):,} of {len(pictures):,} pictures, e.g. nsdId {absent[0]}",
                expected="a row for every picture that the subjects saw",
                todo="complete the table",
            )
        clusters = table.loc[pictures].to_numpy()
    else:
        clusters = cluster_texts(
            [annotations.captions(int(number)) for number in pictures], options.clusters, options.seed
        )
    held_out = hold_out_groups(clusters, options.test_share, options.seed)
    return {int(number) for number, cluster in zip(pictures, clusters.tolist(), strict=True) if cluster in held_out}


def _category(pictures: np.ndarray, annotations: Annotations, options: NsdOptions, root: Path) -> set[int]:
    """Return the pictures in which anything of the category is to be seen, however small."""
    name = str(options.test_category)
    if options.category_table:
        table = _table(root / options.category_table, "category")
        known = table["category"].astype(str)
        found = set(table["nsdId"][known == name])
    else:
        if not annotations.has_objects:
            raise MissingFileError(
                'split = "category" needs to know what is in the pictures',
                given="no instances_train2017.json or instances_val2017.json of COCO",
                expected="COCO's annotations in the folder annotations, or the option category_table",
                todo="download annotations_trainval2017.zip from cocodataset.org, or give a table",
            )
        found, known = annotations.showing(name), pd.Series(annotations.categories())
    found &= set(pictures.tolist())
    if not found:
        raise UnknownNameError("category", name, sorted(set(known)))
    return found


def _table(path: Path, column: str) -> pd.DataFrame:
    if not path.is_file():
        raise MissingFileError(
            f"the table of the option {column}_table is missing",
            given=f"no file {path}",
            expected=f"a CSV with the columns nsdId and {column}",
            todo="check the path; it counts from the folder of the data set",
        )
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise damaged(path, error, "mend the table") from error
    missing = [name for name in ("nsdId", column) if name not in table]
    if missing:
        raise InputError(
            f"{path} lacks columns",
            given=f"columns {', '.join(map(str, table.columns))}",
            expected=f"nsdId and {column}",
            todo="mend the table",
        )
    return table


def _check(found: dict[str, np.ndarray], options: NsdOptions) -> None:
    for name, split in found.items():
        if not {"train", "test"} <= set(split):
            counts = ", ".join(f"{int((split == part).sum()):,} {part}" for part in ("train", "test"))
            raise InputError(
                f"the split {options.split!r} leaves {name} without samples of one kind",
                given=f"{counts} of {len(split):,} trials",
                expected="samples to train on and samples to test on",
                todo="read more sessions, or change the options of the split",
            )


def _report(split: np.ndarray, trials: pd.DataFrame, options: NsdOptions) -> dict[str, str]:
    out = split == LEFT_OUT
    if not out.any():
        return {}
    pictures = trials["nsdId"][out].nunique()
    why = {
        "shared1000": f"of {pictures:,} shared pictures shown less than {options.test_repeats} times",
        "sessions": f"of {pictures:,} test pictures, shown in training sessions too",
    }[options.split]
    return {"trials left out": f"{int(out.sum()):,} {why}"}
