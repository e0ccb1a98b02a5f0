"""Manifests: what is published says whose it is, and whether it is whole, where none of its runs is."""

import json
import shutil
from pathlib import Path

import pytest

from weakseg import manifest, plan, runs
from weakseg.config_text import load
from weakseg.errors import WeaksegError
from weakseg.workflow import publish

KEYS = ("0000000a", "0000000b")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Two runs that were published, and their manifest."""
    monkeypatch.chdir(tmp_path)
    for key, name in zip(KEYS, ("tables/a.csv", "scores.parquet"), strict=True):
        make_run(key, name, f"of {key}")
    publish(Path("results"), folders(KEYS))
    return Path("results") / runs.manifest_of(KEYS)


def folders(keys):
    return [Path("results/runs/stage") / f"all-{key}" for key in keys]


def make_run(key, name, content):
    path = folders([key])[0] / name
    path.parent.mkdir(parents=True)
    path.write_text(content)
    (folders([key])[0] / "run.json").write_text("{}")


def test_a_manifest_names_runs_and_files(published):
    content = json.loads(published.read_text())
    assert content["runs"] == [f"stage/all-{key}" for key in KEYS]
    assert sorted(content["files"]) == ["scores.parquet", "tables/a.csv"]
    # By `printf "of 0000000b" | sha256sum`.
    assert content["files"]["scores.parquet"] == "5db5a76c78f24271378be12cc662f89787828b5aabef42b6016637c0e3cb43e6"


def test_it_holds_without_the_runs(published):
    shutil.rmtree("results/runs")
    expected = {Path("results/tables/a.csv"), Path("results/scores.parquet"), published}
    assert set(manifest.check(published)) == expected


@pytest.mark.parametrize("name", ["tables/a.csv", "scores.parquet"])
def test_a_file_that_changed_or_went_is_named(published, name):
    path = Path("results") / name
    path.write_text("other")
    with pytest.raises(WeaksegError, match=f"{name}: not what .* says was published"):
        manifest.check(published)
    path.unlink()
    with pytest.raises(WeaksegError, match=f"{name}: missing"):
        manifest.check(published)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runs": []}', '{"files": 3}'])
def test_what_is_no_manifest_is_told_in_one_line(published, content):
    published.write_text(content)
    with pytest.raises(WeaksegError, match="no manifest as publishing writes it"):
        manifest.check(published)


def test_other_runs_have_another_manifest_and_the_old_one_goes(published):
    make_run("0000000c", "tables/a.csv", "newer")
    newer = ["0000000c", KEYS[1]]
    publish(Path("results"), folders(newer))
    (left,) = Path("results/manifests").iterdir()
    assert left == Path("results") / runs.manifest_of(newer) != published
    manifest.check(left)


def test_a_kill_while_publishing_leaves_no_manifest(published, monkeypatch):
    make_run("0000000c", "tables/a.csv", "newer")
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        publish(Path("results"), folders(["0000000c", KEYS[1]]))
    assert not any(Path("results/manifests").iterdir())


def test_targets_keep_each_others_manifests(published):
    make_run("0000000d", "tables/study.csv", "study")
    study = Path("results") / runs.manifest_of(["0000000d"])
    publish(Path("results"), folders(["0000000d"]), [*manifest.check(published)])
    publish(Path("results"), folders(KEYS), [*manifest.check(study)])
    assert set(Path("results/manifests").iterdir()) == {published, study}
    manifest.check(published)
    manifest.check(study)


def test_tables_made_again_otherwise_withdraw_the_manifest(published):
    table = Path("results/tables/a.csv")
    manifest.withdraw_untrue(Path("results"), [table])
    assert published.exists()
    table.write_text("with another parameter")
    manifest.withdraw_untrue(Path("results"), [table])
    assert not published.exists()


def test_order_of_keys_does_not_matter():
    assert runs.manifest_of(KEYS) == runs.manifest_of(reversed(KEYS))


@pytest.mark.parametrize(
    "change", [{"seeds": [7]}, {"data_seed": 1}, {"report": {"overlay_cases": 1}}, {"protocol": {"bootstrap": 100}}]
)
def test_every_configuration_has_its_own_manifest(change):
    """Else what another one published would pass for what this one asks for."""
    base = {"seeds": [0], "data": {"instance": None, "kits": None}, "views": {"volume": None}}
    one, other = (plan.build(load({**base, **more})) for more in ({}, change))
    assert one.manifest != other.manifest
    assert one.manifest in one.published
