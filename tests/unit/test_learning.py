import pytest

from weakseg.classifiers.learning import schedule_of
from weakseg.config_classifiers import TrainingConfig


@pytest.mark.parametrize(
    ("least_steps", "steps", "epochs", "patience"),
    [
        (0, 5, 30, 8),
        # 30 epochs of 65 steps are enough.
        (1950, 65, 30, 8),
        (1950, 39, 50, 14),
        (1950, 40, 49, 13),
    ],
)
def test_few_steps_an_epoch_give_more_epochs_and_patience(least_steps, steps, epochs, patience):
    settings = TrainingConfig(epochs=30, patience=8, least_steps=least_steps).model_dump()
    schedule = schedule_of(settings, steps)
    assert (schedule.epochs, schedule.patience, schedule.steps_per_epoch) == (epochs, patience, steps)
    assert schedule.epochs * steps >= least_steps
