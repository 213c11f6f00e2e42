"""Names of the labels in NSD's ROI files, for where the color tables (``*.mgz.ctab``) were not downloaded."""

from __future__ import annotations

import re
from pathlib import Path

from neurorecon.datasets.images import damaged
from neurorecon.datasets.nsd.layout import DOWNLOAD

_KASTNER = (
    "V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 TO2 TO1 LO2 LO1 V3B V3A IPS0 IPS1 IPS2 IPS3 IPS4 IPS5 SPL1 FEF"
)

#: The areas of Glasser et al. 2016 (Nature 536:171), in the order of their numbers.
_GLASSER = """
V1 MST V6 V2 V3 V4 V8 4 3b FEF PEF 55b V3A RSC POS2 V7 IPS1 FFC V3B LO1 LO2 PIT MT A1 PSL SFL PCV STV 7Pm 7m POS1 23d
v23ab d23ab 31pv 5m 5mv 23c 5L 24dd 24dv 7AL SCEF 6ma 7Am 7PL 7PC LIPv VIP MIP 1 2 3a 6d 6mp 6v p24pr 33pr a24pr p32pr
a24 d32 8BM p32 10r 47m 8Av 8Ad 9m 8BL 9p 10d 8C 44 45 47l a47r 6r IFJa IFJp IFSp IFSa p9-46v 46 a9-46v 9-46d 9a 10v
a10p 10pp 11l 13l OFC 47s LIPd 6a i6-8 s6-8 43 OP4 OP1 OP2-3 52 RI PFcm PoI2 TA2 FOP4 MI Pir AVI AAIC FOP1 FOP3 FOP2
PFt AIP EC PreS H ProS PeEc STGa PBelt A5 PHA1 PHA3 STSda STSdp STSvp TGd TE1a TE1p TE2a TF TE2p PHT PH TPOJ1 TPOJ2
TPOJ3 DVT PGp IP2 IP1 IP0 PFop PF PFm PGi PGs V6A VMV1 VMV3 PHA2 V4t FST V3CD LO3 VMV2 31pd 31a VVC 25 s32 pOFC2 PoI1
Ig FOP5 p10p p47r TGv MBelt LBelt A4 STSva TE1m PI a32pr p24
"""

#: Labels of each file, from 1.
LABELS: dict[str, tuple[str, ...]] = {
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "Kastner2015": tuple(_KASTNER.split()),
    "HCP_MMP1": tuple(_GLASSER.split()),
}

#: Areas that are the union of others, e.g. V1 of its ventral and dorsal part.
UNIONS: dict[str, tuple[str, ...]] = {
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "FFA": ("FFA-1", "FFA-2"),
    "FBA": ("FBA-1", "FBA-2"),
    "VWFA": ("VWFA-1", "VWFA-2"),
}

#: Files whose labels get a prefix, because others have labels of the same names.
_PREFIXES = {"Kastner2015": "Kastner_", "HCP_MMP1": "HCP_"}

#: Labels of Kastner2015 that no other file has, and that get none.
_OF_KASTNER = frozenset(LABELS["Kastner2015"][7:])


def label_names(file: str, folders: list[Path]) -> dict[int, str]:
    """Return the name of each label of an ROI file, e.g. ``{1: "V1v", 2: "V1d"}``.

    Parameters
    ----------
    file : str
        Name of the ROI file without hemisphere and suffix, e.g. ``"prf-visualrois"``.
    folders : list of path
        Where its color table may lie, the first one first.
    """
    for folder in folders:
        path = folder / f"{file}.mgz.ctab"
        if path.is_file():
            return {number: _roi_name(file, name) for number, name in _read_table(path).items()}
    return {number: _roi_name(file, name) for number, name in enumerate(LABELS.get(file, ()), start=1)}


def unnamed(file: str, number: int) -> str:
    """Return the name of a label that no table names."""
    return file if (file, number) == ("nsdgeneral", 1) else f"{file}_{number}"


def _read_table(path: Path) -> dict[int, str]:
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                number, name = line.split(maxsplit=2)[:2]  # colors may follow
                found[int(number)] = name
    except (ValueError, UnicodeDecodeError) as error:
        raise damaged(path, error, DOWNLOAD) from error
    return {number: name for number, name in found.items() if number > 0}


def _roi_name(file: str, name: str) -> str:
    name = re.sub(r"\(.*\)$", "", name)  # "TO1(MT)": MT is a group
    # Tables of different releases differ in capitals: "V3a", "V3A".
    name = next((known for known in LABELS.get(file, ()) if known.lower() == name.lower()), name)
    if file == "Kastner2015" and name in _OF_KASTNER:
        return name
    # Files that are not in the table above (corticalsulc, MTL, ...) may name anything: they carry their own name.
    return f"{_PREFIXES.get(file, '' if file in LABELS else f'{file}_')}{name}"
