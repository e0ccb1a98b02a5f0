"""Truth masks as filters: the lesion of each slice that shows one, and a placed one for each that shows none."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from weakseg import nifti
from weakseg.classifiers.resnet import read_slices
from weakseg.data.grid import read_foreground
from weakseg.data.labels import LESION, NORMAL
from weakseg.data.truth import open_lesion
from weakseg.execution import Context
from weakseg.randomness import rng

ROLES = ("train", "val", "test")
"""Cases of the study; the fold `shift` is left out."""
TRIES = 20
"""Lesions that are tried until one fits into a slice whole."""


def run(context: Context) -> None:
    """Write ``masks/<case>.nii.gz``, (X, Y, Z) uint8 on the case's grid: a mask in every labelled slice of the fold.

    A slice without lesion gets one of a random slice of the same role, so that masks have the same areas, shapes and
    places in both classes, as far as the foreground allows.
    """
    params, preprocessed = context.params, context.folder("preprocess")
    slices = read_slices(context)
    foregrounds, affines, masks = {}, {}, {}
    for case in slices.loc[slices["role"].isin(ROLES), "case"].unique():
        foregrounds[case], affines[case] = read_foreground(preprocessed, case)
        lesion, _ = open_lesion(context, context.folder("truth"), case, "sneak_attack", params["region"], "grid")
        masks[case] = lesion & foregrounds[case]
    for role in ROLES:
        of_role = slices[slices["role"] == role]
        donors = of_role[of_role["label"] == LESION]
        for row in of_role[of_role["label"] == NORMAL].itertuples():
            generator = rng(params["data_seed"], "donor", f"{row.case}/{row.position}")
            drawn = donors.iloc[generator.permutation(len(donors))[:TRIES]]
            lesions = [masks[donor.case][..., donor.position] for donor in drawn.itertuples()]
            masks[row.case][..., row.position] = place_one(
                [lesion for lesion in lesions if lesion.any()], foregrounds[row.case][..., row.position]
            )
    for case, mask in masks.items():
        _write(context, slices[slices["case"] == case], case, mask, affines[case])


def _write(context: Context, slices: pd.DataFrame, case: str, mask: NDArray, affine: NDArray) -> None:
    labelled = slices.loc[slices["label"].isin((LESION, NORMAL)), "position"].to_numpy()
    kept = np.zeros(mask.shape, dtype=np.uint8)
    kept[..., labelled] = mask[..., labelled]
    nifti.write(context.out / "masks" / f"{case}.nii.gz", kept, affine)


def place_one(lesions: list[NDArray], foreground: NDArray) -> NDArray:
    """The first of some masks (X, Y) that fits into a foreground whole, there; else the part of it that fits most."""
    best = np.zeros_like(foreground)
    for lesion in lesions:
        placed = place(lesion, foreground)
        if placed.sum() == lesion.sum():
            return placed
        best = max(best, placed, key=np.count_nonzero)
    return best


def place(lesion: NDArray, foreground: NDArray) -> NDArray:
    """Move a mask (X, Y) bool as little as needed to have most of it inside a foreground; what is outside is cut."""
    inside = np.rint(fftconvolve(foreground.astype(float), lesion[::-1, ::-1].astype(float)))
    # Entry s of the full convolution is the overlap after a move by s - (shape - 1).
    moves = np.argwhere(inside == inside.max()) - (np.array(lesion.shape) - 1)
    move = moves[np.argmin((moves**2).sum(axis=1))]
    moved = np.argwhere(lesion) + move
    moved = moved[((moved >= 0) & (moved < foreground.shape)).all(axis=1)]
    placed = np.zeros_like(foreground)
    placed[tuple(moved.T)] = True
    return placed & foreground
