import json

from weakseg import catalogue, versions


def test_code_changes_only_with_its_version():
    changed = versions.changed_without_version()
    assert not changed, f"raise the version of {changed} in src/weakseg/catalogue.py, then run `make schemas`"


def test_every_stage_is_on_record():
    recorded = json.loads(versions.RECORD.read_text())
    assert {name: entry["version"] for name, entry in recorded.items()} == {
        name: stage.version for name, stage in catalogue.STAGES.items()
    }


def test_hash_sees_code_and_ignores_words():
    plain = "def f(x):\n    return x + 1\n"
    assert versions._code(plain) == versions._code('def f(x):\n    """Words."""\n    # more\n    return x+1')
    assert versions._code(plain) != versions._code("def f(x):\n    return x + 2\n")
