"""The workflow on a real Slurm, by the profiles that users have."""

import os

import pytest
from tests.system.slurm.cluster import FOLDER, CannotRunError, Cluster
from tests.system.slurm.story import ENOUGH, TOO_LITTLE

pytestmark = pytest.mark.system

ON_CPU, ON_GPU = ("cpu", 0), ("gpu", 1)


def test_each_rule_in_its_partition_with_or_without_a_gpu(story):
    asked = {(job.rule, job.partition, job.gpus) for job in story.cluster.jobs()}
    data = ("phantom", "index", "preprocess", "truth", "labels")
    assert asked == {(rule, *ON_CPU) for rule in data} | {(rule, *ON_GPU) for rule in ("classifier", "maps")}
    assert len(story.planned) == 12


def test_local_rules_stay_with_snakemake(story):
    assert all(record.exists() for record in story.records_of("models"))
    assert not story.cluster.jobs("models")


def test_two_trainings_have_a_gpu_each(story):
    devices = story.cluster.devices()
    # Two were cancelled, and two began where those ended.
    numbers = [job.number for job in story.cluster.jobs("classifier")]
    assert [{devices[number] for number in pair} for pair in (numbers[:2], numbers[2:])] == [{"0", "1"}] * 2
    assert {devices[job.number] for job in story.cluster.jobs() if job.partition == "cpu"} == {"none"}


def test_job_killed_for_memory_is_tried_again_with_more(story):
    first, second = story.cluster.jobs("preprocess")
    assert (first.state, first.memory) == ("FAILED", f"{TOO_LITTLE}M")
    (log,) = story.directory.glob(f".snakemake/slurm_logs/rule_preprocess/*/{first.number}.log")
    assert "exceeded memory limit" in log.read_text()
    assert (second.state, second.memory) == ("COMPLETED", f"{ENOUGH}M")


def test_drained_node_ends_its_job_and_gets_no_other(story):
    before = [job for job in story.jobs_when_cancelled if job.rule in ("phantom", "index")]
    assert {(job.node, job.state) for job in before} == {("one", "COMPLETED")}
    assert {job.node for job in story.jobs_when_cancelled if job not in before} == {"two"}


def test_cancelled_controller_takes_its_jobs_along_and_leaves_no_half_output(story):
    assert story.cancelled.status != 0
    trainings = [job.state for job in story.jobs_when_cancelled if job.rule == "classifier"]
    assert trainings == ["CANCELLED"] * 2
    # What there is, is whole, and of a training there is nothing but what it goes on from.
    whole = [run for run in story.planned if run.stage in ("index", "preprocess", "truth", "labels")]
    folders = {path.parts[:2] for path in story.files_when_cancelled}
    assert folders == {run.folder.parts[-2:] for run in whole}
    assert all(path in story.files_when_cancelled for path in (story.below_runs(run.record) for run in whole))
    assert story.checkpoints_when_cancelled


def test_it_goes_on_where_it_was_cancelled(story):
    assert story.resumed.status == 0, story.resumed.printed[-6000:]
    assert all(record.exists() for record in story.records_of("classifier"))
    assert [job.state for job in story.cluster.jobs("classifier")[2:]] == ["COMPLETED"] * 2
    assert not story.checkpoints()
    once = ("phantom", "index", "truth", "labels")
    assert [len(story.cluster.jobs(rule)) for rule in once] == [1] * len(once)


def test_jobs_of_a_rule_are_one_array(story):
    assert story.arrays.status == 0, story.arrays.printed[-6000:]
    assert all(record.exists() for record in story.records_of("maps"))
    maps = story.cluster.jobs("maps")
    assert [job.state for job in maps] == ["COMPLETED"] * 4
    assert len({job.array for job in maps}) == 1
    assert maps[0].array


def test_second_run_does_nothing(story):
    assert story.again.status == 0
    assert "Nothing to be done" in story.again.printed
    assert max(job.number for job in story.cluster.jobs()) == max(job.number for job in story.cluster.jobs("maps"))


def test_configuration_of_another_cluster_is_left_alone(tmp_path):
    path = tmp_path / "slurm.conf"
    path.write_text("ClusterName=hospital\n")
    _refuses(Cluster(tmp_path, path), "is another cluster's")
    assert path.read_text() == "ClusterName=hospital\n"


def test_cluster_of_other_tests_is_left_alone(tmp_path):
    folder = tmp_path / "other" / FOLDER
    folder.mkdir(parents=True)
    (folder / "pids").write_text(f"{os.getpid()}")
    path = tmp_path / "slurm.conf"
    path.symlink_to(folder / "slurm.conf")
    _refuses(Cluster(tmp_path, path), f"other tests, process {os.getpid()}")
    assert path.readlink() == folder / "slurm.conf"


def _refuses(cluster, why):
    with pytest.raises(CannotRunError, match=why if os.geteuid() == 0 else "needs root"):
        cluster.start()
    cluster.stop()
    assert not cluster.folder.exists()
