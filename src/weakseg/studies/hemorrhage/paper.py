"""What Ramananda & Sundaresan 2023 (arXiv 2309.16627) report: two numbers of their abstract. Free of torch."""

from __future__ import annotations

PUBLISHED_DICE = {
    "Ramananda & Sundaresan 2023": 0.55,
    "another weakly supervised method, not named": 0.47,
}
"""Mean Dice on the validation data of INSTANCE 2022, as the abstract states it."""

NOT_COMPARABLE = (
    "no: the masks of INSTANCE's validation cases are not public, so ours are held out of the training cases; other "
    "network, data and steps"
)
"""Why published figures are no target."""
