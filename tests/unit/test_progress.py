"""What the terminal shows of a run, and says at its end."""

import logging

import pytest
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from tests import page_factory

from snakemake_logger_plugin_weakseg import Progress, clock
from weakseg.report import summary


@pytest.fixture
def progress(monkeypatch):
    """A run whose clock the test sets."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return Progress(), now


def test_a_line_for_each_job_that_ends(progress):
    view, now = progress
    assert view.line(LogEvent.RUN_INFO, {"stats": {"maps": 1, "all": 1, "total": 2}}).startswith("2 jobs to do")
    facts = {"jobid": 3, "rule_name": "maps", "wildcards": {"label": "brats-slice-cam-s0-f0", "key": "01234567"}}
    assert view.line(LogEvent.JOB_INFO, facts) == ""
    now[0] += 3700
    line = view.line(LogEvent.JOB_FINISHED, {"job_id": 3})
    assert line == " 50 %  1:01:40  maps                 brats-slice-cam-s0-f0  (3700 s)"
    assert view.line(LogEvent.JOB_FINISHED, {"job_id": 9}).startswith("100 %")


@pytest.mark.parametrize("event", [None, LogEvent.JOB_ERROR, LogEvent.ERROR])
def test_what_is_no_progress_is_left_to_snakemake(progress, event):
    assert progress[0].line(event, {}) is None


def test_clock():
    assert [clock(seconds) for seconds in (0, 59.9, 3661)] == ["0:00:00", "0:00:59", "1:01:01"]


def test_snakemake_finds_it_and_errors_are_said(capsys):
    registry = LoggerPluginRegistry()
    if "weakseg" not in registry.plugins:
        registry.collect_plugins()
    handler = registry.get_plugin("weakseg").log_handler(OutputSettings(), None)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for level, message in ((logging.INFO, "Select jobs to execute..."), (logging.ERROR, "Using nothing: it failed")):
        handler.emit(logging.LogRecord("snakemake", level, "", 0, message, (), None))
    assert capsys.readouterr().err == "Using nothing: it failed\n"


def test_the_end_names_the_best_and_the_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plans = page_factory.make(tmp_path)
    place = plans["all"].destination
    page_factory.write_csv(tmp_path / place / "tables" / "leaderboard.csv", page_factory.board_rows())
    plans["all"].page.write_text("")
    assert summary.succeeded(plans).split("\n") == [
        "",
        "brats (phantom): best is LayerCAM, Dice 0.900 at val-3, with 3 masks",
        f"page         {place}/report.html",
        "studies      sneak_attack",
        "",
    ]
