"""Every refinement that needs no training beside the tool that one would else take, on a full-size brain-MRI phantom.

    pip install SimpleITK
    python benchmarks/refinements.py

Prints processor seconds on one thread, their ratio to ours, and the gain of Dice, each at its best threshold, for a map
that is the truth gone wrong: blurred, shifted by two voxels, with a false blob of 0.8 in the other hemisphere. Our
seconds hold all that a run does for a map but reading and writing. The peers are

- ``supervoxel``: SciPy's mean over labels;
- ``clusters``: scikit-learn, fitted to all voxels of the foreground; the cluster that agrees best, ungated by the map;
- ``random_walker``: scikit-image's on the box around the same seeds; SimpleITK's ``ConfidenceConnected`` from some;
- ``crf``: no dense CRF in 3D installs from a wheel, so scikit-image's ``morphological_chan_vese`` from the map.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import morphological_chan_vese, random_walker
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from weakseg.catalogue import MAP_REFINEMENTS
from weakseg.config_data import BratsConfig
from weakseg.config_refinements import RefinementsConfig
from weakseg.data.foreground import nonzero
from weakseg.data.phantoms.brain_mri import make_case
from weakseg.data.preprocess import to_grid
from weakseg.evaluation.histogram import histogram, overlap_curves
from weakseg.evaluation.protocol import normalise
from weakseg.nifti import spacing_of
from weakseg.refinements.case import Case, box_around, scaled
from weakseg.refinements.chains import refine_map
from weakseg.supervoxels import supervoxels

FLAIR = 3
DATASET = BratsConfig()
SETTINGS = {step: RefinementsConfig().parameters(step, DATASET) for step in MAP_REFINEMENTS if step != "student"}


def make(shape: tuple[int, int, int], segments: int) -> tuple[Case, NDArray, NDArray]:
    """A phantom on its grid, its whole tumour, and a corrupted map of it."""
    phantom = make_case(1, "benchmark", grade="HGG", shape=shape)
    raw = np.stack(list(phantom.images.values()))
    image, foreground, affine = to_grid(raw, nonzero(raw), phantom.affine, None, None, None, "benchmark")
    spacing = spacing_of(affine)
    lesion = phantom.segmentation > 0
    radius = (lesion.sum() * np.prod(spacing) * 3 / 4 / np.pi) ** (1 / 3)
    blurred = ndimage.gaussian_filter(
        np.roll(lesion, 2, (0, 1, 2)).astype(np.float32), [radius / 2 / size for size in spacing]
    )
    false = np.flip(ndimage.gaussian_filter(lesion.astype(np.float32), [3 / size for size in spacing]), 0) > 0.9
    relevance = np.maximum(blurred / blurred.max(), 0.8 * false)
    labels = supervoxels(image, foreground, spacing, segments, 0.1)
    return Case(image, foreground, spacing, labels), lesion, normalise(relevance, foreground)


def mean_of_labels(case: Case, relevance: NDArray) -> NDArray:
    index = np.arange(case.supervoxels.max() + 1)
    means = np.asarray(ndimage.mean(relevance, case.supervoxels, index))
    means[0] = 0
    return means[case.supervoxels]


def best_cluster(case: Case, relevance: NDArray, mixture: bool) -> NDArray:
    inside = case.foreground
    values = case.image[FLAIR][inside][:, None]
    number = SETTINGS["clusters"]["number"]
    fitted = GaussianMixture(number, random_state=0) if mixture else KMeans(number, random_state=0)
    found = fitted.fit_predict(values)
    means = np.bincount(found, relevance[inside]) / np.bincount(found)
    refined = np.zeros(relevance.shape, np.float32)
    refined[inside] = found == means.argmax()
    return refined


def seeds(relevance: NDArray) -> tuple[NDArray, NDArray]:
    """What is surely lesion, and what is surely not."""
    relative = relevance / relevance.max()
    return relative >= SETTINGS["random_walker"]["high"], relative <= SETTINGS["random_walker"]["low"]


def walker_of_scikit_image(case: Case, relevance: NDArray) -> NDArray:
    lesion, normal = seeds(relevance)
    box = box_around(~normal & case.foreground, margin=1)
    labels = np.where(lesion, 1, np.where(normal, 2, 0))[box]
    labels[~case.foreground[box]] = -1
    refined = np.zeros(relevance.shape, np.float32)
    # Its own scale of beta, which makes the weights those of ours.
    image = scaled(case, [FLAIR], box)[0]
    beta = SETTINGS["random_walker"]["beta"] * 10 * float(image.std())
    refined[box] = random_walker(image, labels, beta=beta, mode="cg_j", return_full_prob=True)[0]
    return refined


def grown_by_simpleitk(case: Case, relevance: NDArray) -> NDArray:
    places = np.argwhere(seeds(relevance)[0])
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(case.image[FLAIR]))
    chosen = [tuple(int(n) for n in place[::-1]) for place in places[:: max(1, len(places) // 50)]]
    grown = SimpleITK.ConfidenceConnected(image, chosen, numberOfIterations=2, multiplier=2.0)
    return SimpleITK.GetArrayFromImage(grown) * case.foreground


def chan_vese(case: Case, relevance: NDArray) -> NDArray:
    box = box_around(case.foreground)
    refined = np.zeros(relevance.shape, np.float32)
    refined[box] = morphological_chan_vese(
        scaled(case, [FLAIR], box)[0], num_iter=20, init_level_set=relevance[box] > 0.5
    )
    return refined * case.foreground


PEERS: dict[str, dict[str, Callable[[Case, NDArray], NDArray]]] = {
    "supervoxel": {"SciPy": mean_of_labels},
    "clusters kmeans": {"scikit-learn": lambda case, relevance: best_cluster(case, relevance, mixture=False)},
    "clusters gaussian_mixture": {"scikit-learn": lambda case, relevance: best_cluster(case, relevance, mixture=True)},
    "clusters fuzzy_cmeans": {},
    "random_walker": {"scikit-image": walker_of_scikit_image, "SimpleITK": grown_by_simpleitk},
    "crf": {"scikit-image": chan_vese},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(240, 240, 155))
    parser.add_argument("--only", choices=PEERS, nargs="+", default=list(PEERS))
    options = parser.parse_args()
    case, lesion, relevance = make(tuple(options.shape), 400)

    def best_dice(of: NDArray) -> float:
        counts = histogram(of.astype(np.float32), lesion, case.foreground, float(np.prod(case.spacing)) / 1000)
        return float(overlap_curves(counts)["dice"].max())

    before = best_dice(relevance)
    print(f"{case.foreground.sum()} voxels in the foreground, {lesion.sum()} of lesion; Dice of the map {before:.3f}")
    for name in options.only:
        step, *algorithm = name.split()
        settings = {step: SETTINGS[step] | ({"algorithm": algorithm[0]} if algorithm else {})}

        def ours(case: Case, relevance: NDArray, step: str = step, settings: dict = settings) -> NDArray:
            return refine_map(relevance, case, [step], settings)[0]

        base = None
        for who, contender in {"ours": ours, **PEERS[name]}.items():
            with threadpool_limits(1):
                started = time.process_time()
                refined = contender(case, relevance)
                seconds = time.process_time() - started
            base = base or seconds
            gain = best_dice(refined) - before
            print(f"{name:26}{who:14}{seconds:8.2f} s ({seconds / base:6.1f}x)  Dice {gain:+.3f}", flush=True)


if __name__ == "__main__":
    main()
