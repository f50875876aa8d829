"""Figures that others published, with the public file or paper they were read from. Nothing here was measured by us.

Only figures whose source was seen are rows. Where a source itself could not be seen, the row's source says
"unverified", and so does every output.
"""

from __future__ import annotations

from benchmarks.protocols.types import Row

_DEEP3D = "sicxu/Deep3DFaceRecon_pytorch, README"
_FOCUS = "unibas-gravis/Occlusion-Robust-MoFA, README"
_SURVEY = "NoW leaderboard of June 2024, as a survey quotes it"
_HRN = "Lei et al. 2023 (HRN)"
_FACESCAPE = "zhuhao-nju/facescape, benchmark/eval_result"
_GANFIT = "GANFit's paper; unverified"


def _now(name: str, median: float, mean: float | None, std: float | None, source: str) -> Row:
    return Row(name, {"median": median, "mean": mean, "std": std}, source)


NOW = (
    _now("TokenFace", 0.76, None, None, _SURVEY),
    _now("FlowFace", 0.87, None, None, _SURVEY),
    _now("MICA", 0.90, None, None, _SURVEY),
    _now("FOCUS", 1.04, 1.30, 1.10, _FOCUS),
    _now("DECA", 1.09, 1.38, 1.18, _DEEP3D),
    _now("Deep3D (PyTorch)", 1.11, 1.41, 1.21, _DEEP3D),
    _now("RingNet", 1.21, 1.53, 1.31, _DEEP3D),
    _now("Deep3D (TensorFlow)", 1.23, 1.54, 1.29, _DEEP3D),
    _now("3DDFA-V2", 1.23, 1.57, 1.39, _DEEP3D),
    _now("MGCNet", 1.31, 1.87, 2.63, _DEEP3D),
    _now("PRNet", 1.50, 1.98, 1.88, _DEEP3D),
    _now("3DMM-CNN", 1.84, 2.33, 2.05, _DEEP3D),
)
"""Non-metrical, test set."""


def _micc(name: str, *settings: tuple[float, float]) -> Row:
    cells = {key: f"{mean:.2f}±{std:g}" for key, (mean, std) in zip(MICC_COLUMNS, settings, strict=True)}
    return Row(name, cells, _GANFIT)


MICC_COLUMNS = ("Cooperative", "Indoor", "Outdoor")
MICC_SYMMETRIC = (
    _micc("GANFit", (0.95, 0.107), (0.94, 0.106), (0.94, 0.106)),
    _micc("Genova et al.", (1.50, 0.13), (1.50, 0.11), (1.48, 0.11)),
    _micc("Booth et al.", (1.82, 0.29), (1.85, 0.22), (1.63, 0.16)),
    _micc("Tran et al.", (1.93, 0.27), (2.02, 0.25), (1.86, 0.23)),
)
MICC_CROPPED = (
    Row("Deep3D (PyTorch)", {"all": "1.53±0.45"}, _DEEP3D),
    Row("Deep3D (PyTorch, 2023-04)", {"all": "1.54±0.49"}, _DEEP3D),
    Row("Deep3D (TensorFlow)", {"all": "1.67±0.50"}, "microsoft/Deep3DFaceReconstruction, readme"),
    Row("Genova et al.", {"all": "1.77±0.53"}, "microsoft/Deep3DFaceReconstruction, readme"),
)


def _views(name: str, median: float, mean: float, std: float) -> Row:
    return Row(name, {"median": median, "mean": mean, "std": std}, f"{_HRN}, table 2")


FACESCAPE_3VIEW = (
    _views("HRN", 1.13, 1.51, 1.79),
    _views("MVFNet", 1.76, 2.12, 1.66),
    _views("DFNRMVS", 1.79, 2.41, 2.61),
)
ESRC_2VIEW = (_views("HRN", 1.29, 1.69, 1.72), _views("DFNRMVS", 1.59, 2.13, 2.29))


WILD_BINS = ("0-5", "5-30", "30-60", "60-90")
_WILD = {
    "MGCNet": ("3.11 2.92 2.85 4.20 3.27", ".072 .072 .070 .091 .076", "84.5 84.6 81.6 74.4 81.3", 100),
    "3DDFA_V2": ("2.56 2.69 3.22 3.68 3.04", ".075 .075 .080 .093 .081", "86.3 86.0 83.1 80.0 83.9", 100),
    "DECA": ("2.92 2.65 2.91 4.81 3.32", ".079 .078 .080 .116 .088", "99.9 99.9 99.7 99.7 99.8", 100),
    "UDL": ("2.25 2.50 3.38 6.31 3.28", ".084 .088 .101 .176 .104", "69.1 68.2 65.1 49.0 64.6", 87),
    "PRNet": ("2.64 3.07 4.28 3.88 3.47", ".116 .113 .118 .141 .122", "83.3 82.9 78.6 75.2 80.0", 100),
    "facescape_opti": ("1.97 2.77 3.92 7.11 3.79", ".080 .089 .107 .169 .108", "85.0 82.7 77.9 66.7 78.6", 95.5),
    "facescape_deep": ("2.63 3.62 4.11 9.09 4.86", ".085 .092 .099 .151 .107", "86.9 86.5 85.3 70.8 82.4", 100),
    "RingNet": ("2.41 2.98 4.86 10.79 5.26", ".084 .085 .100 .190 .115", "99.8 99.7 98.4 96.8 98.7", 100),
    "Deep3DFaceRec": ("3.21 4.13 5.74 8.91 5.50", ".096 .101 .113 .168 .119", "78.0 77.4 71.3 57.3 71.0", 100),
}


_WILD_DISTANCE = {
    "LAP": "4.07 4.40 6.06 13.60 7.03",
    "SADRNet": "6.69 6.87 6.41 8.69 7.17",
    "DFDN": "3.65 3.30 7.28 27.0 8.20",
    "DF2Net": "2.96 4.17 6.73 21.3 4.67",
    "extreme3dface": "4.96 5.58 7.55 26.0 8.49",
}
"""Chamfer distances of methods whose other figures are not printed here."""


def _by_all(rows: list[Row], *, falling: bool = False) -> tuple[Row, ...]:
    """Best first by the column `all`, as leaderboards have it."""
    return tuple(sorted(rows, key=lambda row: float(row.cells["all"]), reverse=falling))


def _wild(which: int) -> tuple[Row, ...]:
    """Rows of CD (0), MNE (1) or CR (2)."""
    columns = (*WILD_BINS, "all")
    rows = []
    for name, entry in _WILD.items():
        cells = dict(zip(columns, map(float, entry[which].split()), strict=True)) | {"done": f"{entry[3]:g} %"}
        rows.append(Row(name, cells, _FACESCAPE))
    if which == 0:
        for name, text in _WILD_DISTANCE.items():
            cells = dict(zip(columns, map(float, text.split()), strict=True))
            rows.append(Row(name, cells | ({"done": "74.9 %"} if name == "DF2Net" else {}), _FACESCAPE))
    paper = {"CD": (2.91, 0), "MNE": (0.065, 1)}
    rows += [Row("HRN", {"all": value}, f"{_HRN}, table 1") for value, of in paper.values() if of == which]
    return _by_all(rows, falling=which == 2)


WILD_CD, WILD_MNE, WILD_CR = _wild(0), _wild(1), _wild(2)

LAB_COLUMNS = ("0°", "30°", "60°", "f 1200", "f 600", "f 300", "all")
_LAB = {
    "PRNet": ("2.94 3.40 3.74 3.42 3.48 3.79 3.56", ".133 .125 .122 .126", 89.6),
    "3DDFA_V2": ("3.05 3.41 3.82 3.45 3.51 3.85 3.60", ".093 .096 .097 .096", 93.1),
    "MGCNet": ("3.45 3.91 3.65 3.82 4.01 4.18 4.00", ".085 .093 .090 .093", 89.9),
    "DECA": ("3.30 4.14 4.20 4.07 4.19 5.81 4.69", ".093 .100 .107 .108", 99.5),
    "UDL": ("2.21 5.34 5.63 5.06 4.91 4.95 4.97", ".092 .123 .167 .125", 69.9),
    "facescape_opti": ("3.21 4.87 4.68 4.69 4.77 5.47 4.98", ".090 .119 .146 .122", 85.0),
    "Deep3DFaceRec": ("3.99 5.90 5.55 5.67 5.28 4.90 5.28", ".106 .120 .137 .118", 80.3),
    "RingNet": ("3.62 5.03 6.82 5.23 5.25 5.37 5.28", ".102 .111 .151 .118", 99.3),
    "facescape_deep": ("2.40 7.28 3.87 6.21 6.19 6.43 6.28", ".086 .124 .108 .120", 88.1),
}


def _lab() -> tuple[tuple[Row, ...], tuple[Row, ...], tuple[Row, ...]]:
    """Rows of CD, MNE and CR."""
    distance, normal, complete = [], [], []
    for name, (cd, mne, cr) in _LAB.items():
        distance.append(Row(name, dict(zip(LAB_COLUMNS, map(float, cd.split()), strict=True)), _FACESCAPE))
        columns = ("0°", "30°", "60°", "all")
        normal.append(Row(name, dict(zip(columns, map(float, mne.split()), strict=True)), _FACESCAPE))
        complete.append(Row(name, {"all": cr}, _FACESCAPE))
    for name, cd in (("SADRNet", 6.75), ("extreme3dface", 6.69), ("DF2Net", 6.88), ("LAP", 7.04), ("DFDN", 9.25)):
        distance.append(Row(name, {"all": cd}, _FACESCAPE))
    distance.append(Row("HRN", {"all": 3.67}, f"{_HRN}, table 1"))
    normal.append(Row("HRN", {"all": 0.087}, f"{_HRN}, table 1"))
    return _by_all(distance), _by_all(normal), _by_all(complete, falling=True)


LAB_CD, LAB_MNE, LAB_CR = _lab()
