"""One lock file, torch first, and nothing in it that is not installed as pinned."""

import re
from importlib.metadata import requires, version

import yaml
from tests.runner import REPOSITORY


def pins():
    lines = (REPOSITORY / "envs" / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_torch_is_first_and_pinned():
    assert next(iter(pins())) == "torch"


def test_every_dependency_is_pinned_as_installed():
    wanted = {re.split(r"[\s;<>=!\[]", line)[0].lower() for line in requires("weakseg") or []}
    locked = {name.lower(): pin for name, pin in pins().items()}
    assert wanted <= set(locked)
    for name in wanted:
        assert version(name).split("+")[0] == locked[name], name


def test_conda_environment_has_the_same_pins():
    environment = yaml.safe_load((REPOSITORY / "envs" / "weakseg.yaml").read_text())
    assert dict(pin.split("==") for pin in environment["dependencies"][-1]["pip"]) == pins()
