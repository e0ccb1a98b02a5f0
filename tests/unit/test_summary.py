"""Which operating point a data set is sorted by."""

import pandas as pd
import pytest

from weakseg.evaluation.summary import at_headline, headline_point


@pytest.mark.parametrize(
    ("points", "headline"),
    [
        (["fixed", "val-10", "val-20", "oracle-set"], "val-10"),
        (["fixed", "val-1", "val-5", "val-20"], "val-5"),
        (["fixed", "label-free", "val-20", "oracle-set"], "label-free"),
        (["val-40", "val-20", "oracle-set"], "val-20"),
        (["oracle-set", "fixed"], "fixed"),
        (["oracle-set"], "oracle-set"),
    ],
)
def test_headline_never_uses_more_masks_than_declared_if_it_can(points, headline):
    assert headline_point(points) == headline
    assert headline_point(reversed(points)) == headline


def test_headline_is_chosen_for_each_data_set():
    points = {"brats": ["val-10", "val-5"], "kits": ["val-5", "fixed"]}
    table = pd.DataFrame(
        [
            {"dataset": name, "source": "phantom", "region": "tumour", "operating_point": point}
            for name, of_set in points.items()
            for point in of_set
        ]
    )
    assert at_headline(table)[["dataset", "operating_point"]].to_numpy().tolist() == [
        ["brats", "val-10"],
        ["kits", "val-5"],
    ]
