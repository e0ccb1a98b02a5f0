"""What the paper reports: tables 1 and 3 of Shvetsov et al. 2024 (COIN, arXiv 2404.12832). Free of torch."""

from __future__ import annotations

from typing import NamedTuple


class Reported(NamedTuple):
    """Published figures: Fréchet distance, validity at 0.8, and IoU of all pixels together; None where not given."""

    fid: float | None
    validity: float | None
    iou: float


TABLE_1: dict[tuple[str, str], Reported] = {
    ("anomalies", "scorecam"): Reported(None, None, 0.030),
    ("anomalies", "layercam"): Reported(None, None, 0.026),
    ("anomalies", "rise"): Reported(None, None, 0.397),
    ("anomalies", "singla"): Reported(0.047, 0.998, 0.445),
    ("anomalies", "coin"): Reported(0.003, 0.997, 0.646),
    ("tumours", "scorecam"): Reported(None, None, 0.293),
    ("tumours", "layercam"): Reported(None, None, 0.296),
    ("tumours", "rise"): Reported(None, None, 0.294),
    ("tumours", "singla"): Reported(0.203, 0.992, 0.352),
    ("tumours", "coin"): Reported(0.036, 0.980, 0.432),
}
"""By part of the study and method; ``tumours`` are those of the Tartu University Hospital there."""

TABLE_3: dict[str, Reported] = {
    "A": Reported(1.6190, 0.992, 0.020),
    "B": Reported(0.5500, 0.934, 0.086),
    "C": Reported(0.3254, 0.968, 0.284),
    "D": Reported(0.1751, 0.933, 0.480),
    "E": Reported(0.0849, 0.961, 0.463),
    "F": Reported(0.0253, 0.9542, 0.509),
    "G": Reported(0.0493, 0.996, 0.528),
    "H": Reported(0.0466, 0.998, 0.445),
    "COIN": Reported(0.0029, 0.997, 0.646),
}
"""By row."""

NOT_COMPARABLE = {
    "anomalies": "other kidneys, small networks, few steps; blobs drawn once; FID of other features",
    "tumours": "the paper's CTs are private; small networks, few steps; FID of other features",
}
"""Why published figures are no target, by part of the study."""
