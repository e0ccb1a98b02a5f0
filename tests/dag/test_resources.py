"""What jobs ask of a cluster through `profiles/slurm`."""

import re

import yaml
from tests.runner import REPOSITORY, snakemake

PROFILES = REPOSITORY / "profiles"
RULE = re.compile(r"^rule (\w+):\n(?:(?!rule ).*\n)*?        \*\*needs\(\"(\w+)\"\),$", re.MULTILINE)
SIZES = {rule: size for path in (REPOSITORY / "rules").glob("*.smk") for rule, size in RULE.findall(path.read_text())}


def profile(name):
    return yaml.safe_load((PROFILES / name / "profile.yaml").read_text())


def test_every_stage_has_a_size():
    commands = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    assert set(SIZES) == set(re.findall(r"^        command\(\"(\w+)\"\)$", commands, re.MULTILINE))
    assert set(SIZES.values()) == {"small", "medium", "large"}


def test_what_trains_or_explains_has_a_gpu():
    """Whatever is large, but for the preprocessing of many cases at once."""
    on_gpu = profile("slurm")["set-resources"]
    assert set(on_gpu) == {rule for rule, size in SIZES.items() if size == "large"} - {"preprocess"}
    assert all(values == {"slurm_partition": "gpu", "gpu": 1, "device": "cuda"} for values in on_gpu.values())


def test_profiles_of_clusters_say_nothing_that_the_default_does():
    """Snakemake would heed the default's word, not theirs."""
    for name in ("slurm", "slurm-array"):
        assert not profile(name).keys() & profile("default").keys()


def test_arrays_are_short_and_no_script():
    """Version 2.8.0 of the plugin runs the first task's command in all, where commands come as a script."""
    values = profile("slurm") | profile("slurm-array")
    assert values["slurm-array-limit"] <= 20
    assert "slurm-pass-command-as-script" not in values


def test_second_attempt_gets_twice_the_memory_and_no_more_time(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "data": {"instance": None, "kits": None}, "seeds": [0]}))
    arguments = ["--profile", str(PROFILES / "slurm"), "--configfile", str(path), "--dry-run"]
    asked = {}
    for attempt in (1, 2):
        printed = snakemake(tmp_path, *arguments, "--attempt", str(attempt)).stdout
        jobs = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", printed, re.MULTILINE)
        asked[attempt] = {rule: dict(part.split("=") for part in resources.split(", ")) for rule, resources in jobs}
    memory = {
        rule: [int(asked[attempt][rule]["mem_mb"]) for attempt in (1, 2)] for rule in ("labels", "scores", "classifier")
    }
    assert memory == {"labels": [4000, 8000], "scores": [16000, 32000], "classifier": [32000, 64000]}
    assert [asked[attempt]["labels"]["runtime"] for attempt in (1, 2)] == ["60", "60"]
    assert {asked[1][rule]["slurm_partition"] for rule in ("preprocess", "scores", "leaderboard")} == {"cpu"}
    assert "gpu" not in asked[1]["scores"]
    assert asked[1]["classifier"]["gpu"] == "1"
