import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from weakseg.evaluation.classification import auc, balanced_log_likelihood, sensitivity_specificity, youden_threshold
from weakseg.randomness import rng


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 1000], ids=["ties", "no ties"])
def test_auc_against_scikit_learn(seed, levels):
    generator = rng(seed, "auc")
    labels = generator.integers(0, 2, 60)
    scores = generator.integers(0, levels, 60) + labels * generator.integers(0, levels, 60) / 3
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auc_at_its_ends():
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1
    assert auc([1, 2, 3, 4], [1, 1, 0, 0]) == 0
    assert auc([5, 5, 5, 5], [1, 0, 1, 0]) == 0.5
    assert auc([1, 2, 2, 3], [0, 0, 1, 1]) == (1 + 0.5 + 1 + 1) / 4


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_auc_without_a_class(labels):
    assert np.isnan(auc([1, 2, 3], labels))


def test_youden_by_hand():
    # Thresholds 0, 1.5, ..., 7.5 have J = 0, 1/4, 1/2, 1/4, 1/2, 3/4, 1/2, 1/4.
    assert youden_threshold([1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 1, 0, 0, 1, 1, 1]) == 5.5
    # 1.5 and 3.5 both have J = 1/2.
    assert youden_threshold([1, 2, 3, 4], [0, 1, 0, 1]) == 1.5


def test_youden_of_equal_ones_takes_the_lowest():
    # 2.5 finds all three lesions and lets two of three others pass; 4.5 finds two and lets all pass: J = 2/3 twice.
    assert youden_threshold([1, 2, 3, 4, 5, 6], [0, 0, 1, 0, 1, 1]) == 2.5


@pytest.mark.parametrize("seed", range(5))
def test_youden_reaches_the_best_of_the_roc_curve(seed):
    generator = rng(seed, "youden")
    labels = generator.integers(0, 2, 80)
    scores = np.round(generator.normal(size=80) + labels, 1)
    passes, hits, _ = roc_curve(labels, scores)
    sensitivity, specificity = sensitivity_specificity(scores, labels, youden_threshold(scores, labels))
    assert sensitivity + specificity - 1 == pytest.approx((hits - passes).max())


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_youden_without_a_class_lets_all_through(labels):
    assert youden_threshold([3, 1, 2], labels) < 1


def test_youden_of_one_score_for_all():
    assert youden_threshold([2, 2, 2], [0, 1, 1]) < 2


def test_sensitivity_specificity():
    scores, labels = [1, 2, 3, 4, 5], [0, 1, 0, 1, 1]
    assert sensitivity_specificity(scores, labels, 3) == (2 / 3, 1 / 2)
    assert sensitivity_specificity(scores, labels, 3.5) == (2 / 3, 1)
    assert sensitivity_specificity(scores, labels, 0) == (1, 0)


def test_sensitivity_specificity_without_a_class():
    sensitivity, specificity = sensitivity_specificity([1, 2, 3], [0, 0, 0], 2.5)
    assert np.isnan(sensitivity)
    assert specificity == 2 / 3
    sensitivity, specificity = sensitivity_specificity([1, 2, 3], [1, 1, 1], 2.5)
    assert sensitivity == 1 / 3
    assert np.isnan(specificity)


def test_log_likelihood_weighs_classes_the_same():
    assert balanced_log_likelihood([0, 0, 0], [1, 0, 0]) == pytest.approx(-np.log(2))
    logits, labels = np.array([2.0, -1.0, 0.5, 3.0]), np.array([1, 0, 0, 0])
    probability = 1 / (1 + np.exp(-logits))
    expected = (np.log(probability[0]) + np.log(1 - probability[1:]).mean()) / 2
    assert balanced_log_likelihood(logits, labels) == pytest.approx(expected)
    # The AUC of both is 1; the surer one is better, and logits beyond any exponent are finite.
    assert balanced_log_likelihood([2, -2], [1, 0]) > balanced_log_likelihood([1, -1], [1, 0])
    assert balanced_log_likelihood([-2000, -1], [1, 0]) == pytest.approx(-1000, rel=1e-3)
    assert np.isnan(balanced_log_likelihood([1, 2], [1, 1]))
