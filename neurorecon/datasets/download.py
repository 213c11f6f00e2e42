"""Fetch the public data sets whose terms allow it: through nilearn's fetchers, or file by file, checked by sha256."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurorecon.errors import InputError, UnknownNameError

#: Seconds without an answer after which a server counts as unreachable.
TIMEOUT = 30

_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Source:
    """Files at one address.

    Parameters
    ----------
    address : str
        With a slash at its end.
    sha256 : mapping of str to str
        Digest of each file.
    sizes : mapping of str to int
        Bytes of each file.
    """

    address: str
    sha256: Mapping[str, str]
    sizes: Mapping[str, int]


#: Files by data set; excerpts of those that nilearn fetches as wholes. Addresses name a commit, so nothing can change.
SOURCES = {
    "yamada2015": Source(
        f"{_RAW}/KamitaniLab/NeuralCodeConverter/63cdb7b87bcdfc8f48de9956aba7633528e7fb78/data/",
        {
            "S2_figureImage.mat": "15160b519e9e234f22cfbdd918e418dd42e9ebbdacb35e5e194c668e62b3c6dd",
            "S2_outlierVoxInd.mat": "9e03d6e7171c25ec90a94eae002b79a31c024ea604fa05100128aed33c97ba15",
        },
        {"S2_figureImage.mat": 4_068_848, "S2_outlierVoxInd.mat": 1_597},
    ),
    "miyawaki2008": Source(
        f"{_RAW}/KamitaniLab/VBCCA/423bab985dadbf0a29660cc87ad9cc007a67f4df/sample/data/",
        {"V1_mean_figure.mat": "a65908b290870694af100b51c6c143c0217146494350a5b8219eb1b2ed137788"},
        {"V1_mean_figure.mat": 494_782},
    ),
    "haxby2001": Source(
        f"{_RAW}/PyMVPA/PyMVPA/20f0335f98bbb59a0e11bc0b7a469edf8681a9a1/mvpa2/data/",
        {
            "attributes.txt": "a252fa822cd1cec9e1192b139d7b5e35a5615dbe75598f73d4cf1b803aae62b0",
            "attributes_literal.txt": "7769f235e93d3157ef7bd1102abfaf3bc058ad9ca28e89dc60b8e47f473207c3",
            "bold.nii.gz": "cbbd4d07803caaa9f77381af24e790cf77058664a128bd514a4c1668eefb92d7",
            "mask.nii.gz": "8d879d35aaeee3afddfb69a7e1b8dd2b3be446671452d7e841dc6588845f2877",
        },
        {"attributes.txt": 6_050, "attributes_literal.txt": 12_026, "bold.nii.gz": 1_311_329, "mask.nii.gz": 197},
    ),
}

#: Data sets that nilearn fetches as wholes, into a folder of their name.
FETCHED = ("miyawaki2008", "haxby2001")

HAXBY_SUBJECTS = tuple(f"subj{number}" for number in range(1, 7))


def downloadable() -> list[str]:
    """Return the names of the data sets that :func:`download` fetches."""
    return list(SOURCES)


def download(
    name: str,
    folder: str | Path,
    *,
    excerpt: bool = False,
    subjects: Sequence[str] | None = None,
    pictures: bool = False,
    progress: bool = True,
) -> Path:
    """Fetch a data set. Files that are there already are kept.

    Parameters
    ----------
    name : str
        One of :func:`downloadable`.
    folder : path
        Where to; made where it does not exist.
    excerpt : bool
        A few megabytes for a first try, in place of the whole (``miyawaki2008``, ``haxby2001``).
    subjects : sequence of str, optional
        Of ``haxby2001``, ``subj1`` to ``subj6``; by default ``subj2``, as nilearn.
    pictures : bool
        Fetch the pictures of ``haxby2001`` too.
    progress : bool
        Say what is being fetched, on stderr.

    Returns
    -------
    Path
        The folder for ``--root``.

    Raises
    ------
    UnknownNameError
        Where the data set cannot be fetched from here.
    InputError
        Where the server cannot be reached, or a file is not the one that was published.
    """
    if name not in SOURCES:
        todo = f"see what it needs and how to get it: neurorecon datasets show {name}"
        raise UnknownNameError("downloadable data set", name, SOURCES, todo=todo)
    whole = name in FETCHED and not excerpt
    if (subjects is not None or pictures) and (name != "haxby2001" or not whole):
        raise InputError(
            f"{name}{' (excerpt)' if excerpt else ''} offers no choice of subjects or pictures",
            given=", ".join([*(["--subject"] if subjects is not None else []), *(["--pictures"] if pictures else [])]),
            expected="neither; they belong to the whole of haxby2001",
            todo="leave it out",
        )
    for subject in subjects or []:
        if subject not in HAXBY_SUBJECTS:
            raise UnknownNameError("subject", subject, HAXBY_SUBJECTS)
    folder = Path(folder)
    if not whole:
        fetch_files(SOURCES[name], folder, progress=progress)
        return folder
    with _told(name, "nilearn's servers (www.nitrc.org, data.pymvpa.org)", folder):
        _fetch_with_nilearn(name, folder, subjects, pictures, progress)
    return folder / name


def _fetch_with_nilearn(
    name: str, folder: Path, subjects: Sequence[str] | None, pictures: bool, progress: bool
) -> None:
    from nilearn import datasets

    folder.mkdir(parents=True, exist_ok=True)
    # nilearn tells of its progress on stdout, which belongs to results.
    with contextlib.redirect_stdout(sys.stderr):
        if name == "miyawaki2008":
            datasets.fetch_miyawaki2008(data_dir=str(folder), verbose=int(progress))
        else:
            datasets.fetch_haxby(
                data_dir=str(folder),
                subjects=[HAXBY_SUBJECTS.index(subject) + 1 for subject in subjects or ["subj2"]],
                fetch_stimuli=pictures,
                verbose=int(progress),
            )


def fetch_files(source: Source, folder: str | Path, *, progress: bool = True) -> list[Path]:
    """Fetch files and compare them with their digests.

    Parameters
    ----------
    source : Source
    folder : path
        Made where it does not exist. Whole files that are there already are not fetched again.
    progress : bool
        Say what is being fetched, on stderr.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        Where the server cannot be reached, or a file is not the one that was published.
    """
    import pooch

    pooch.get_logger().setLevel("INFO" if progress else "WARNING")
    registry = {name: f"sha256:{digest}" for name, digest in source.sha256.items()}
    shelf = pooch.create(path=Path(folder), base_url=source.address, registry=registry)
    loader = pooch.HTTPDownloader(timeout=TIMEOUT)
    with _told(source.address.split("/")[2], source.address, Path(folder)):
        return [Path(shelf.fetch(name, downloader=loader)) for name in source.sha256]


@contextlib.contextmanager
def _told(what: str, where: str, folder: Path) -> Iterator[None]:
    """Turn what goes wrong while fetching into one error; a folder that cannot be written is the system's to tell."""
    try:
        yield
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong digest is a ValueError
        if isinstance(error, OSError) and error.filename is not None:
            raise  # a folder that cannot be written, a full disk
        wrong = isinstance(error, ValueError) and "hash" in str(error)
        raise InputError(
            f"{what}: a file is not the one that was published" if wrong else f"{what} could not be downloaded",
            given=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300],
            expected="the published sha256" if wrong else f"an answer from {where}",
            todo="try again, or fetch the files elsewhere and copy them into "
            f"{folder}; files that are whole are kept. Behind a proxy set HTTPS_PROXY",
        ) from error
