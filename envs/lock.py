"""Write requirements.lock and weakseg.yaml from a fresh environment: `make lock`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
TORCH = "torch==2.13.0"


def freeze() -> list[str]:
    """Install torch first, then everything pyproject.toml names, and return the pins, torch first."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [name for group in groups for name in group]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", TORCH], check=True)
        subprocess.run([*pip, "install", "--quiet", TORCH, *wanted], check=True)
        listed = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout.split()
    # A local build (torch==2.13.0+cpu) is pinned by its public version, so that other machines find theirs.
    pins = [pin.split("+")[0] for pin in listed]
    return [TORCH, *sorted((pin for pin in pins if pin != TORCH), key=str.lower)]


def main() -> None:
    write(freeze())


def write(pins: list[str]) -> None:
    """Write both files from one list of pins."""
    (HERE / "requirements.lock").write_text("# Made by `make lock`.\n" + "\n".join(pins) + "\n")
    lines = ["# Made by `make lock`: for `snakemake --sdm conda`. The pins are those of requirements.lock."]
    lines += [
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        "  - python=3.11",
        "  - pip",
        "  - pip:",
    ]
    (HERE / "weakseg.yaml").write_text("\n".join([*lines, *(f"      - {pin}" for pin in pins)]) + "\n")


if __name__ == "__main__":
    main()
