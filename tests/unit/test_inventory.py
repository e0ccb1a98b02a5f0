import os

import pytest

from weakseg.data import inventory
from weakseg.data.inventory import content_digest
from weakseg.errors import WeaksegError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "raw"
    (folder / "HGG").mkdir(parents=True)
    (folder / "HGG/a.nii").write_bytes(b"first")
    (folder / "b.nii").write_bytes(b"second")
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "state/inventory.json"


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names, sha256 = [], inventory._sha256
    monkeypatch.setattr(inventory, "_sha256", lambda path: (names.append(path.name), sha256(path))[1])
    return names


def test_second_call_reads_no_file(root, cache, reads):
    first = content_digest(root, cache)
    assert sorted(reads) == ["a.nii", "b.nii"]
    assert content_digest(root, cache) == first
    assert len(reads) == 2


def test_touched_file_is_read_again_and_is_the_same(root, cache, reads):
    first = content_digest(root, cache)
    os.utime(root / "b.nii", ns=(10**18, 10**18))
    assert content_digest(root, cache) == first
    assert reads[2:] == ["b.nii"]


def test_content_counts(root, cache, reads):
    first = content_digest(root, cache)
    (root / "b.nii").write_bytes(b"SECOND")
    os.utime(root / "b.nii", ns=(10**18, 10**18))
    changed = content_digest(root, cache)
    assert changed != first
    assert reads[2:] == ["b.nii"]
    (root / "b.nii").write_bytes(b"second")
    assert content_digest(root, cache) == first


def test_names_count(root, cache):
    first = content_digest(root, cache)
    (root / "b.nii").rename(root / "c.nii")
    renamed = content_digest(root, cache)
    (root / "c.nii").rename(root / "HGG/b.nii")
    assert len({first, renamed, content_digest(root, cache)}) == 3


def test_new_and_lost_files_count(root, cache):
    first = content_digest(root, cache)
    (root / "c.nii").write_bytes(b"")
    assert content_digest(root, cache) != first
    (root / "c.nii").unlink()
    assert content_digest(root, cache) == first
    (root / "b.nii").unlink()
    assert content_digest(root, cache) != first


def test_place_of_the_folder_does_not_count(root, cache):
    first = content_digest(root, cache)
    moved = root.rename(root.with_name("elsewhere"))
    assert content_digest(moved, cache) == first


def test_cache_holds_several_folders(root, cache, reads, tmp_path):
    first = content_digest(root, cache)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.nii").write_bytes(b"first")
    content_digest(other, cache)
    assert content_digest(root, cache) == first
    assert len(reads) == 3


@pytest.fixture
def pointer(root):
    path = root.with_name("raw.dvc")
    path.write_text("outs:\n- md5: 0123456789abcdef.dir\n  size: 11\n  nfiles: 2\n  hash: md5\n  path: raw\n")
    return path


def test_dvc_pointer_spares_reading(root, cache, reads, pointer):
    assert content_digest(root, cache) == "0123456789abcdef.dir"
    assert reads == []
    assert not cache.exists()


@pytest.mark.parametrize(
    ("name", "content", "found"), [("b.nii", b"third!!", "2 files of 12"), (".c", b"", "3 files of 11")]
)
def test_pointer_of_other_files_is_refused(root, cache, pointer, name, content, found):
    (root / name).write_bytes(content)
    expected = f"raw: {found} bytes, but raw.dvc says 2 of 11; run `dvc add {root}`"
    with pytest.raises(WeaksegError, match=expected):
        content_digest(root, cache)


@pytest.mark.parametrize("content", ["outs: [", "", "outs: []", "outs:\n- md5: 0123456789abcdef\n  size: 11\n"])
def test_broken_pointer_is_named(root, cache, pointer, content):
    pointer.write_text(content)
    with pytest.raises(WeaksegError, match=r"raw\.dvc: no pointer to a folder as `dvc add` writes it; run it again"):
        content_digest(root, cache)


def test_missing_folder_says_which_key_to_set(tmp_path, cache):
    with pytest.raises(WeaksegError, match=r"nowhere: no such folder; set data\.<data set>\.path"):
        content_digest(tmp_path / "nowhere", cache)


def test_missing_folder_with_a_pointer_is_pulled(root, cache, pointer):
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(WeaksegError, match=rf"raw: no such folder; run `dvc pull {pointer}`$"):
        content_digest(root, cache)
