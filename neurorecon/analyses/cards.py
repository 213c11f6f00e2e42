"""Folders for the Hugging Face hub: a store or a fitted system, with the card that describes it.

A card is ``README.md``: metadata that the hub reads, and a description that is made from what the store or the fit
records. Nothing is uploaded. What may be handed on is decided by :class:`Terms` before anything is written.

A ridge decoder holds the singular value decomposition of its training responses, X = U S V', and with the coordinates
of the targets these too. Where the terms do not let everybody redistribute both, U is left out of the folder.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import neurorecon
from neurorecon import hub
from neurorecon.analyses.results import MANIFEST, data_of, plain_parameter, write_fit_manifest
from neurorecon.decoders.neural.base import NeuralDecoder
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning, listed
from neurorecon.io.files import file_name, remove_leftovers, replacing
from neurorecon.provenance import to_json_types, weights_label, weights_record
from neurorecon.store.check import describe, export_store
from neurorecon.store.store import Store
from neurorecon.systems.base import System, load_system

#: Licenses that let everybody hand on adapted copies, as the Hugging Face hub abbreviates them.
OPEN_LICENSES = frozenset(
    ("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
     "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "pddl", "odc-by", "odbl", "mit",
     "apache-2.0", "bsd-2-clause", "bsd-3-clause")
)  # fmt: skip

#: Other ways to write some of them: BIDS says CC0 and PDDL.
_ALSO = {"cc0": "cc0-1.0", "pddl-1.0": "pddl", "odc-by-1.0": "odc-by", "odbl-1.0": "odbl"}

#: Files that git has to keep in large file storage: safetensors, and chunks of Zarr, which have no ending.
_LARGE = ("*.safetensors", "**/c/**")

#: Upper ends of the hub's categories of sizes, and the category above the last.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))

_TAGS = ("neuroscience", "fmri", "visual-cortex", "brain-decoding", "neurorecon")


@dataclass(frozen=True)
class Terms:
    """The terms of use of a data set, and what they let everybody hand on.

    Parameters
    ----------
    name : str
        The data set, e.g. ``"nsd"``.
    text : str
        The terms, as the store states them.
    license : str
        The hub's abbreviation; ``"other"`` if it has none.
    redistribution : {"allowed", "responses", "restricted"}
        As in :class:`neurorecon.hub.Item`.
    home : str
        URL of the distributor; may be empty.
    """

    name: str
    text: str
    license: str
    redistribution: Literal["allowed", "responses", "restricted"]
    home: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Terms:
        """Return the terms of what a store holds, from :func:`neurorecon.analyses.results.data_of`.

        Those of a public data set are in the catalog. Of other data the stated terms count if they are the name of an
        open license; anything else is restricted.
        """
        text, reader = str(data["terms"]), str(data["reader"])
        item = {known.name: known for known in hub.items("data set")}.get(reader)
        if item is not None and item.redistribution:
            return cls(reader, text, item.license_id or "other", item.redistribution, item.home)
        name = re.sub(r"[\s_]+", "-", text.strip().lower())
        name = _ALSO.get(name, name)
        if name in OPEN_LICENSES:
            return cls(str(data["name"]), text, name, "allowed")
        public = name in ("pd", "public-domain")
        return cls(str(data["name"]), text, "other", "allowed" if public else "restricted")

    def metadata(self, stimuli: bool) -> dict[str, Any]:
        """Return the license as the metadata of a card states it.

        Parameters
        ----------
        stimuli : bool
            Whether images or videos are in the folder; if their terms differ, no abbreviation holds for all of it.
        """
        if self.license != "other" and (self.redistribution == "allowed" or not stimuli):
            return {"license": self.license}
        name = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return {"license": "other", "license_name": f"terms-of-{name}", "license_link": "LICENSE.md"}

    def section(self, permission: str | None) -> str:
        """Return the terms as a section of a card."""
        where = f" The distributor: {self.home}." if self.home else ""
        stated = f"\n\nShared by this permission, as stated by whoever exported the folder: {permission}"
        return f"{self.text.rstrip('.')}.{where}{stated if permission else ''}"


def export_dataset(
    store: Store, out: str | Path, *, permission: str | None = None, progress: bool = True
) -> list[Path]:
    """Write a store as a data set for the Hugging Face hub: plain Zarr, and a card.

    Parameters
    ----------
    store : Store
        Its snapshot, and the split column that it follows, are what the card describes.
    out : path
        Folder to write; it must not exist, or be empty.
    permission : str, optional
        By what permission data is shared whose terms do not let everybody redistribute it; the card shows it.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of Path
        The card and the store. The folder appears only once it is complete.

    Raises
    ------
    InputError
        If the terms do not allow it and no permission is stated, or the folder holds something.
    """
    terms, facts = Terms.of(data_of(store)), describe(store)
    shows = [name for name in ("images", "frames") if f"stimuli/{name}" in dict(store.arrays())]
    _require_terms(terms, shows, permission)
    _warn_of_paths(store)
    name = f"{file_name(store.name)}.zarr"
    with _new_folder(out) as part:
        export_store(store, part / name, progress=progress)
        metadata = {
            "pretty_name": facts["description"]["title"],
            **terms.metadata(bool(shows)),
            "size_categories": [_size(row["samples"] for one in facts["subjects"].values() for row in one["samples"])],
            "task_categories": ["other"],
            "tags": [*_TAGS, "zarr", *(("simulated",) if store.simulated else ())],
            "viewer": False,  # the hub's viewer does not read Zarr
            **({"extra_gated_prompt": f"By these terms: {terms.text}"} if permission else {}),
        }
        _write_card(part, "dataset", metadata, _dataset_text(store, facts, terms, permission, name, shows), terms,
                    permission)  # fmt: skip
    folder = Path(out)
    return [folder / "README.md", *([folder / "LICENSE.md"] if (folder / "LICENSE.md").exists() else []), folder / name]


def export_model(
    fit: str | Path,
    out: str | Path,
    *,
    results: str | Path | None = None,
    store: Store | None = None,
    permission: str | None = None,
) -> list[Path]:
    """Write a fitted system as a model for the Hugging Face hub: its files, and a card.

    Absolute paths in parameters and records are cut to their last part. If the terms of the training data do not let
    everybody redistribute it, ridge decoders are written without the vectors of the training samples, from which
    training responses could be computed; what they decode stays the same to the bit.

    Parameters
    ----------
    fit : path
        Folder that ``neurorecon fit`` or :meth:`neurorecon.System.save` wrote.
    out : path
        Folder to write; it must not exist, or be empty.
    results : path, optional
        Folder of ``neurorecon reconstruct`` with scores of this system, for the card.
    store : Store, optional
        What the system was fitted to; needed for fits whose manifest does not say it.
    permission : str, optional
        By what permission the training samples of restricted data are shared with the decoders; the card shows it.

    Returns
    -------
    list of Path
        The files. The folder appears only once it is complete.

    Raises
    ------
    MissingFileError, InputError, UnknownNameError
        If there is no complete fit, nothing says what it was fitted to, results are those of another fit, a decoder
        keeps training responses that may not be redistributed, or the folder holds something.
    """
    source = Path(fit)
    if not source.is_dir():
        raise MissingFileError(
            "there is no fitted system here",
            given=f"{source}, {'a file' if source.exists() else 'which does not exist'}",
            expected="a folder that neurorecon fit wrote",
            todo="fit one, e.g. neurorecon fit --system linear-pixels, and name the folder that it prints",
        )
    system: System = load_system(source)
    manifest = _manifest(source)
    data = _training_data(source, system, manifest, store)
    terms = Terms.of(data)
    scored, compared = ([], []) if results is None else _scored(Path(results), system)
    forgotten = [] if terms.redistribution == "allowed" or permission else _forget(system, terms)
    system.provenance_, system.targets_ = _without_paths(system.provenance_), _without_paths(system.targets_)
    system.set_params(**{key: _without_paths(value) for key, value in system.get_params(deep=False).items()
                         if isinstance(value, str | Path)})  # fmt: skip
    record = {key: value for key, value in manifest.items() if key not in ("data", "files", "parameters", "weights")}
    record = _without_paths(record or {"versions": {"neurorecon": system.provenance_.get("neurorecon")}})
    with _new_folder(out) as part:
        system.save(part)
        write_fit_manifest(part, system, record, data)
        metadata = {
            **terms.metadata(stimuli=True),
            "library_name": "neurorecon",
            "pipeline_tag": "other",
            "tags": [*_TAGS, system.name, *(f"{kind}-reconstruction" for kind in system.kinds),
                     *(("simulated",) if data["simulated"] else ())],
            **_evaluation(system, data, scored),
        }  # fmt: skip
        _write_card(part, "model", metadata, _model_text(system, data, terms, permission, forgotten, scored, compared),
                    terms, permission)  # fmt: skip
    return sorted(path for path in Path(out).rglob("*") if path.is_file())


# -- what may be written, and where -----------------------------------------------------------------------------


def _require_terms(terms: Terms, shows: Sequence[str], permission: str | None) -> None:
    """Refuse a store that not everybody may redistribute, unless a permission is stated."""
    if permission or terms.redistribution == "allowed" or (terms.redistribution == "responses" and not shows):
        return
    if terms.redistribution == "responses":
        what, given = "the terms of this data set do not let everybody redistribute its stimuli", " and ".join(shows)
        expected = "a store without them"
        todo = "build the store without them, where the reader has an option for that"
    else:
        what, given = "the terms of this data set do not let everybody redistribute it", "responses"
        expected = "data under an open license, e.g. CC0 or CC BY 4.0, stated as its terms"
        todo = "share the recipe in place of the store: who has the data builds the same store from it"
    raise InputError(
        what,
        given=f"{given} of {terms.name}, whose terms are: {terms.text}",
        expected=f"{expected}, or a permission",
        todo=f"{todo}; if you are permitted to share it, say how: --permission 'TEXT', which the card shows",
    )


def _forget(system: System, terms: Terms) -> list[str]:
    """Drop from decoders what training responses could be computed from; return the names of their targets."""
    found = []
    for name, decoder in system.decoders_.items():
        if isinstance(decoder, RidgeDecoder):
            decoder.forget_samples()
            found.append(name)
        elif not isinstance(decoder, NeuralDecoder):
            raise InputError(
                f"the decoder of {name!r} may hold training responses that not everybody may redistribute",
                given=f"{type(decoder).__name__}, fitted to {terms.name}, whose terms are: {terms.text}",
                expected="a RidgeDecoder, whose vectors of training samples are left out, or a network",
                todo="if you are permitted to share them, say how: --permission 'TEXT', which the card shows",
            )
    return found


@contextmanager
def _new_folder(out: str | Path) -> Iterator[Path]:
    """Yield a hidden folder that becomes the new folder when it is complete."""
    target = Path(out)
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        there = "a link" if target.is_symlink() else "which holds files" if target.is_dir() else "which is a file"
        raise InputError(
            "the folder for the hub cannot be written here",
            given=f"{target}, {there}",
            expected="a folder that is empty or does not exist yet",
            todo="choose another name",
        )
    remove_leftovers(target)
    with replacing(target) as part:
        part.mkdir()
        yield part


def _write_card(
    folder: Path, kind: Literal["dataset", "model"], metadata: Mapping[str, Any], text: str, terms: Terms,
    permission: str | None,
) -> None:  # fmt: skip
    from huggingface_hub import DatasetCardData, ModelCardData

    card: Any = (DatasetCardData if kind == "dataset" else ModelCardData)(**metadata)
    (folder / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n\n{text}", encoding="utf-8")
    if metadata["license"] == "other":
        words = f"# Terms of use\n\n{terms.section(permission)}\n"
        (folder / "LICENSE.md").write_text(words, encoding="utf-8")
    lines = [f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LARGE]
    (folder / ".gitattributes").write_text("".join(lines), encoding="utf-8")


def _without_paths(value: Any) -> Any:
    """Return JSON types with absolute paths cut to their last part."""
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str | Path) and Path(value).is_absolute() else value


def _warn_of_paths(store: Store) -> None:
    """Warn of absolute paths in attributes, such as options of the recipe, which their digest does not let us cut."""
    nodes = [("the store", store._root), *store._root.members(max_depth=None)]
    found = [f"{key} of {path}" for path, node in nodes for key, value in node.attrs.items()
             if _without_paths(value) != value]  # fmt: skip
    if found:
        warnings.warn(
            f"attributes hold paths of this machine, which everybody will be able to read: {listed(found, 5)}. Name "
            "such files relative to the folder of the data set, and build the store again.",
            NeuroreconWarning,
            stacklevel=3,
        )


# -- a fit and its results ---------------------------------------------------------------------------


def _manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a fit; empty if there is none."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _training_data(folder: Path, system: System, manifest: Mapping[str, Any], store: Store | None) -> dict[str, Any]:
    """Return what a system was fitted to, from its store or its manifest."""
    digest, column = system.provenance_.get("digest"), system.provenance_.get("split_column")
    if store is not None:
        store = store.with_split(column) if column is not None else store
        if store.digest != digest:
            raise InputError(
                "the system was fitted to another store, or to another state of it",
                given=f"{store.location}, digest {store.digest}",
                expected=f"digest {digest}, snapshot {system.provenance_.get('snapshot')}",
                todo="name the store of the fit with --store, and its state with --snapshot",
            )
        return data_of(store)
    data = manifest.get("data")
    if not isinstance(data, dict) or not {"name", "reader", "title", "terms", "citation", "simulated"} <= set(data):
        raise InputError(
            "nothing says what data the system was fitted to, and under what terms",
            given=f"{folder}, whose {MANIFEST} " + ("does not say it" if manifest else "is missing"),
            expected="the store of the fit, or a manifest that this version of neurorecon wrote",
            todo=f"name the store: --store STORE (digest {digest}), or run neurorecon fit again, which adds it",
        )
    return data


def _scored(folder: Path, system: System) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the scores of a system in a folder of results, and those of it and its controls, with intervals."""
    about = system.provenance_
    parameters = system.get_params(deep=False)
    wanted = {
        "system": system.name, "task": about["task"], "roi": about["roi"], "voxels": len(system.voxels_),
        "digest": about["digest"], "cross_validate": None, "train_samples": about["samples"],
        "options": {key: to_json_types(plain_parameter(value)) for key, value in parameters.items() if key != "device"},
    }  # fmt: skip
    records, others = {}, []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["settings"]["subject"] == about["subject"] and record["digests"] and record["scores"]:
                records[path.name, record["settings"]["kind"]] = record
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another JSON file
    for (name, kind), record in records.items():
        if kind != "reconstruction":
            continue
        settings = record["settings"]
        options = {key: value for key, value in settings["options"].items() if key != "device"}
        given = {**settings, "digest": record["digests"].get("store"), "options": options}
        differ = [key for key, value in wanted.items() if given.get(key) != value]
        if not differ:  # of a comparison, the settings do not say the fit: it is of the same run
            beside = [other["scores"] for (_, kind), other in records.items() if kind == f"{system.name}_comparison"
                      and all(other[key] == record[key] for key in ("command", "time", "digests"))]  # fmt: skip
            return record["scores"], beside[0] if beside else []
        others.append(f"{name}: other {', '.join(differ)}")
    found = "; ".join(others) or f"no reconstructions of {about['subject']}"
    raise InputError(
        "the folder holds no scores of this fit",
        given=f"{folder} ({found})",
        expected=f"results of neurorecon reconstruct with {system.name}, {about['subject']}, on the test split",
        todo="reconstruct with the fit: neurorecon reconstruct --system FIT --store STORE --out RESULTS",
    )


def _evaluation(system: System, data: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the scores as the hub's metadata has them; a score that is undefined has no place there."""
    from huggingface_hub import EvalResult

    about = system.provenance_
    found = [
        EvalResult(
            task_type="other",
            task_name=f"{' and '.join(system.kinds)} reconstruction from fMRI",
            dataset_type=str(data["name"]),
            dataset_name=f"{data['title']}, {about['subject']}",
            dataset_split="test",
            dataset_revision=about.get("snapshot"),
            metric_type=_metric(row, about["subject"]),
            metric_name=_metric(row, about["subject"]),
            metric_value=float(row["value"]),
        )
        for row in scores
        if row["value"] is not None
    ]
    if not found:
        return {}
    return {"model_name": f"{system.name}-{data['name']}-{about['subject']}", "eval_results": found,
            "metrics": list(dict.fromkeys(result.metric_type for result in found))}  # fmt: skip


def _metric(row: Mapping[str, Any], subject: str) -> str:
    return str(row["name"]).removeprefix(f"{subject} ")


# -- the text of cards ---------------------------------------------------------------------------


def _dataset_text(
    store: Store, facts: Mapping[str, Any], terms: Terms, permission: str | None, name: str, shows: Sequence[str]
) -> str:
    about = facts["description"]
    person = store.subjects[0]
    subjects, ceilings = [], []
    for subject, found in facts["subjects"].items():
        for row in found["samples"]:
            subjects.append([subject, f"{found['voxels']:,}", found["mesh"] or found["space"], row["task"],
                             row["split"], f"{row['samples']:,}", f"{row['stimuli']:,}", row["repeats"],
                             row["runs"]])  # fmt: skip
        for task, value in found["noise_ceiling"].items():
            said = found["about_noise_ceiling"].get(task, "")
            ceilings.append([subject, task, "-" if value is None else f"{value:.3f}", said])
    targets = [
        [target, _times(row["shape"]), row["weights"]["label"], row["weights"].get("sha256") or "-",
         row["made_by"].get("licence", "-")]
        for target, row in facts["targets"].items()
    ]  # fmt: skip
    splits = [
        [column, kind, *(f"{sizes[part]:,}" for part in ("train", "test", "left_out")), row["kind"]]
        for column, row in facts["split_columns"].items()
        for kind, sizes in row["sizes"].items()
    ]
    notes = [f"{subject}: {what}: {said}" for subject, found in facts["subjects"].items()
             for what, said in found["report"].items()]  # fmt: skip
    notes += [f"{subject}, {task}: {said}" for subject, found in facts["subjects"].items()
              for task, texts in found["cautions"].items() for said in texts]  # fmt: skip
    held = f"The stimuli themselves are included ({' and '.join(shows)})." if shows else "The stimuli are not included."
    parts = [
        f"# {about['title']}",
        "**The responses are SIMULATED: no brain was measured.**" if facts["simulated"] else "",
        f"Responses of {_number(len(facts['subjects']), 'subject')} ({about['units']}), the stimuli they were shown, "
        f"and targets computed from the stimuli: the neurorecon store `{facts['name']}` as plain Zarr, "
        f"{facts['bytes'] / 1e6:,.0f} MB before compression. {about['notes']}".strip(),
        _table(["", ""], [["name", facts["name"]], ["snapshot it was exported from", facts["snapshot"] or "-"],
                          ["digest of its content", facts["digest"]],
                          ["split column", facts["split_column"] or "the split that it was built with"],
                          ["written by", f"neurorecon {neurorecon.__version__}"]]),
        "## Terms of use", terms.section(permission),
        "## How to open it",
        _code(f'''
            from huggingface_hub import snapshot_download
            import neurorecon as nr

            folder = snapshot_download("USER/NAME", repo_type="dataset")
            store = nr.open_store(f"{{folder}}/{name}")
            responses = store.responses("{person}", task="{store.tasks(person)[0]}")  # dims (sample, voxel)
            '''),
        "or without neurorecon:",
        _code(f'''
            import xarray

            responses = xarray.open_zarr(f"{{folder}}/{name}", group="{person}")["responses"]
            '''),
        f"`neurorecon check {name}` compares every array with its digest.",
        "## Subjects",
        _table(["subject", "voxels", "space", "task", "split", "samples", "stimuli", "repeats", "runs"], subjects),
        "## ROIs",
        "Numbers of voxels; ROIs may overlap.",
        _list(f"**{subject}**: "
              + (", ".join(f"{roi} {number:,}" for roi, number in found["rois"].items()) or "none")
              for subject, found in facts["subjects"].items()),
        "## Noise ceilings",
        "Mean over voxels of the R2 that a perfect model reaches on test responses averaged over repeats.",
        _table(["subject", "task", "mean R2", "how"], ceilings),
        "## Stimuli",
        held,
        _table(["kind", "split", "number"],
               [[row["kind"], row["split"], f"{row['number']:,}"] for row in facts["stimuli"]]),
        *(["Split columns, which can take the place of the split:",
           _table(["column", "kind of stimuli", "train", "test", "left out", "how"], splits)] if splits else []),
        "## Targets",
        *(["What is decoded, one row per stimulus.",
           _table(["target", "shape", "made by", "sha256", "license of the weights"], targets)]
          if targets else ["None."]),
        *(["## Notes", _list(notes)] if notes else []),
        "## Citation", f"{about['citation']}", _cite(),
    ]  # fmt: skip
    return "\n\n".join(filter(None, parts)) + "\n"


def _model_text(
    system: System, data: Mapping[str, Any], terms: Terms, permission: str | None, forgotten: Sequence[str],
    scores: Sequence[Mapping[str, Any]], compared: Sequence[Mapping[str, Any]],
) -> str:  # fmt: skip
    about, subject = system.provenance_, system.provenance_["subject"]
    roi = "all voxels" if about["roi"] is None else "+".join(np.atleast_1d(about["roi"]))
    quality, targets = system.reliability_, []
    for name, spec in system.targets.items():
        stored = system.targets_[name]
        where = "all voxels of the fit" if spec.roi is None else "+".join(np.atleast_1d(spec.roi))
        left_out = f"{np.nanmean(quality[name]):.3f}" if name in quality else "-"
        pixels = spec.source in ("images", "frames")
        targets.append([name, _times(stored["shape"]), type(system.decoders_[name]).__name__, where,
                        "yes" if spec.required else "no", *([left_out] if quality else []),
                        "the stimuli" if pixels else weights_label(stored["attrs"]),
                        "-" if pixels else weights_record(stored["attrs"]).get("sha256") or "-",
                        stored["attrs"].get("licence", "-")])  # fmt: skip
    networks = _networks(system)
    made_up = "No network generates: what is not in the decoded targets is not shown."
    if networks:
        made_up = (
            "Everything else in a reconstruction comes from the networks below, which were trained on other images: "
            "detail, texture and objects can look plausible and be made up. Compare scores with those of the controls, "
            "and see `neurorecon audit` for what a system reaches without the brain."
        )
    rows = [
        [_metric(row, subject), *(_figure(row.get(key)) for key in ("value", "null_mean", "null_max", "p")), row["n"],
         _figure(row.get("baseline"))]
        for row in scores
    ]  # fmt: skip
    kinds = " and ".join(f"{kind}s" for kind in system.kinds)
    trained = [
        ["data", data["title"]], ["subject", subject], ["task", about["task"]], ["ROI", roi],
        ["voxels", f"{len(system.voxels_):,}"], ["training samples", f"{about['samples']:,}"],
        ["training stimuli", f"{about['stimuli']:,}, listed in `system.json`"],
        *([f"{name} was learned from", f"{of['stimuli']:,} images of the task {of['task']} (their {of['target']})"]
          for name, of in system.elsewhere_.items()),
        ["store", data["name"]],
        ["snapshot", about["snapshot"] or "-"], ["digest of the store", about["digest"]],
        ["split column", about.get("split_column") or "the split that the store was built with"],
        ["responses centered within", about.get("centered", "no")], ["scaled within", about.get("scaled", "no")],
        ["fitted by", f"neurorecon {about.get('neurorecon', '')}"],
    ]  # fmt: skip
    left_out = (
        f"The decoders of {', '.join(forgotten)} are without the vectors of the training samples, because training "
        "responses could be computed from them. What they decode is the same to the bit. They are still made from the "
        "training data, and with the training targets at hand much of it can be inferred from them: the terms of the "
        "data apply to them too."
        if forgotten else ""
    )  # fmt: skip
    parts = [
        f"# {system.name}: {kinds} reconstructed from the responses of {subject}",
        "**Fitted to SIMULATED responses: this says nothing about a brain.**" if data["simulated"] else "",
        f"A fitted reconstruction system of neurorecon: decoders from the voxels of one subject to targets, from which "
        f"{kinds} are generated. It works for this subject and these voxels only.",
        "## Terms of use",
        "Those of the training data: " + terms.section(permission), left_out,
        "## How to use it",
        _code(f'''
            from huggingface_hub import snapshot_download
            import neurorecon as nr

            system = nr.load_system(snapshot_download("USER/NAME"))
            store = nr.open_store("STORE")  # of the training data, or of new responses of the same voxels
            found = nr.reconstruct(store, system, subject="{subject}", task="{about['task']}")
            images, scores = found.reconstructed, found.scores
            '''),
        *(["Networks are found by the names below; pass `models=` to `nr.load_system` to use others."]
          if networks else []),
        "## Training",
        _table(["", ""], trained),
        "Parameters: " + ", ".join(f"`{key}={plain_parameter(value)!r}`"
                                   for key, value in system.get_params(deep=False).items()) + ".",
        "## What is decoded, and what is made up",
        "These targets are decoded from the responses."
        + (" Quality is the mean correlation with left-out training samples." if quality else ""),
        _table(["target", "shape", "decoder", "voxels", "required", *(["quality"] if quality else []), "made by",
                "sha256", "license of the weights"], targets),
        made_up,
        *([_table(["network", "weights", "license", "from"], networks)] if networks else []),
        "## Scores",
        *(["On the test split, beside a null of exchanged pairs; `mean image` is reached without the brain.",
           _table(["score", "value", "null mean", "null max", "p", "stimuli", "mean image"], rows)]
          if rows else ["None were given when this card was written."]),
        *(["The system beside its controls, with intervals over stimuli. The oracle generates from the true targets; "
           "the other controls do without the response to the stimulus.",
           _table(["score", "value", "from", "to", "p"],
                  [[row["name"], *(_figure(row.get(key)) for key in ("value", "low", "high", "p"))]
                   for row in compared])] if compared else []),
        "## Citation", str(data["citation"]), _cite(),
    ]  # fmt: skip
    return "\n\n".join(filter(None, parts)) + "\n"


def _networks(system: System) -> list[list[str]]:
    """Return a row for each network that a system generates with: role, name, license and origin."""
    models, rows = str(getattr(system, "models", "bundled")), []
    for role in system.network_roles:
        if models in ("bundled", "published"):
            item = hub.for_role(role, models)
            where = item.repository or item.url or item.home or "in the package neurorecon: they know drawn scenes only"
            rows.append([role, item.name, item.license, where])
        else:
            rows.append([role, f"own weights ({Path(models).name})", "not stated", "not in this folder"])
    adapter = getattr(system, "adapter", None)
    if adapter is not None:
        rows.append(["adapter", Path(str(adapter)).name, "not stated", "not in this folder: pass `adapter=`"])
    return rows


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: Any) -> str:
    """Return text on one line that neither ends a cell nor begins a tag: names come from the files of others."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def _code(text: str) -> str:
    from textwrap import dedent

    return f"```python\n{dedent(text).strip()}\n```"


def _size(numbers: Iterable[int]) -> str:
    total = sum(numbers)
    return next((name for end, name in _SIZES if total < end), "10M<n<100M")


def _times(shape: Sequence[int]) -> str:
    return " x ".join(f"{size:,}" for size in shape)


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cite() -> str:
    return f"Written with neurorecon {neurorecon.__version__}, to be cited as its `CITATION.cff` says."
