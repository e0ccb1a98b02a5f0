"""The command line: one command per stage, and a few for people."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from weakseg import catalogue
from weakseg.device import DEVICES, require_gpu, taken
from weakseg.errors import WeaksegError
from weakseg.integrity import explain


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 1 with one plain message for bad input."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except WeaksegError as error:
        print(f"weakseg: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = explain(error, Path.cwd())
        if reason is None:
            raise
        print(f"weakseg: {reason}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weakseg", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in catalogue.STAGES:
        stage = commands.add_parser(name, help=f"run the stage {name} of a spec file")
        stage.add_argument("--spec", type=Path, required=True, help="results/.state/specs/<key>.json")
        stage.add_argument("--threads", type=int, default=1)
        stage.add_argument("--device", default="cpu", choices=DEVICES)
        stage.set_defaults(command=_stage)
    publish = commands.add_parser("publish", help="copy tables, figures and models to their place")
    publish.add_argument("--destination", type=Path, required=True)
    publish.add_argument("runs", type=Path, nargs="+", help="run folders to publish from")
    publish.add_argument("--keep", type=Path, nargs="+", default=[], help="files of other targets, to leave there")
    publish.set_defaults(command=_publish)
    page = commands.add_parser("page", help="write report.html of what is there, finished or not")
    page.add_argument("--spec", type=Path, help="results/.state/specs/page-<digest>.json, in place of --configfile")
    page.set_defaults(command=_page)
    tables = commands.add_parser("tables", help="make tables and figures again from published scores")
    tables.add_argument("--destination", type=Path, required=True, help="where scores are published")
    tables.add_argument("--threads", type=int, default=1, help="figures that are drawn at the same time")
    tables.add_argument("specs", type=Path, nargs="+", help="spec files of collect, leaderboard, ... and figures")
    tables.set_defaults(command=_tables)
    plan = commands.add_parser("plan", help="list the runs that a configuration asks for, studies included")
    plan.set_defaults(command=_plan)
    verify = commands.add_parser("verify", help="are the published files those of this configuration?")
    verify.set_defaults(command=_verify)
    audit = commands.add_parser("audit", help="do the results of this configuration keep the protocol?")
    audit.add_argument("--out", type=Path, help="also write the table there, as CSV")
    audit.set_defaults(command=_audit)
    score = commands.add_parser("score", help="score your own maps or masks by the same protocol")
    score.add_argument("--maps", type=Path, nargs="+", required=True, help="folder of <case>.nii.gz, or one per fold")
    score.add_argument("--dataset", required=True, help="whose cases they are, as the configuration names it")
    score.add_argument("--masks", action="store_true", help="they are masks of 0 and 1, not maps")
    score.add_argument("--name", help="what tables call them; the folder's name if left out")
    score.add_argument("--masks-used", type=int, default=0, help="number of masks that they were made with")
    score.add_argument("--labels-used", type=int, default=0, help="number of slice labels that they were made with")
    score.add_argument("--out", type=Path, help="folder to write; results/own/<name> if left out")
    score.add_argument("--threads", type=int, default=1)
    score.set_defaults(command=_score)
    prune = commands.add_parser("prune", help="list run folders that no published table and no configuration uses")
    prune.add_argument("--delete", action="store_true", help="remove them")
    prune.set_defaults(command=_prune)
    estimate = commands.add_parser("estimate", help="jobs, hours and bytes that a configuration asks for")
    estimate.add_argument("targets", nargs="*", default=["all"], help="all, a study's name, or studies for all of them")
    estimate.add_argument("--device", default="auto", choices=DEVICES, help="where networks are to run")
    estimate.set_defaults(command=_estimate)
    profile = commands.add_parser("profile", help="where the time of finished runs went")
    profile.add_argument("targets", nargs="*", default=["all"], help="as of estimate")
    profile.set_defaults(command=_profile)
    doctor = commands.add_parser("doctor", help="is this machine fit for a configuration?")
    doctor.add_argument("--profile", type=Path, action="append", help="folder, as given to snakemake", default=[])
    doctor.set_defaults(command=_doctor)
    for command in (page, plan, verify, audit, score, prune, estimate, profile, doctor):
        command.add_argument("--configfile", type=Path, action="append", help="as given to snakemake", default=[])
    schema = commands.add_parser("schema", help="print the JSON schema or the key reference of the configuration")
    schema.add_argument("--reference", action="store_true", help="the table of keys, as Markdown")
    schema.add_argument("--methods", action="store_true", help="the methods' reference instead, as Markdown")
    schema.set_defaults(command=_schema)
    versions = commands.add_parser("record-versions", help="write down which code each stage's version stands for")
    versions.set_defaults(command=_record_versions)
    return parser


def _stage(options: argparse.Namespace) -> None:
    # Libraries read this when they load. Stages over cases have a process per thread, so each keeps to one; stages that
    # compute with torch set its threads themselves.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    # Without it cuBLAS has no reproducible results.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from weakseg.execution import execute

    if not options.spec.is_file():
        raise WeaksegError(f"{options.spec}: no such spec file; `snakemake -n` writes them")
    spec = json.loads(options.spec.read_text())
    asked = options.device
    if spec["stage"] not in catalogue.NETWORK_STAGES:
        # It needs no GPU, but those after it will: better say now that there is none.
        if asked == "cuda":
            require_gpu()
        asked = "cpu"
    with taken(asked) as device:
        execute(spec, options.threads, device)


def _page(options: argparse.Namespace) -> None:
    from weakseg.report.page import write_page
    from weakseg.report.page_spec import read_page_spec
    from weakseg.studies.plans import build_all
    from weakseg.workflow import read_config

    config = read_config(options.configfile) if options.spec is None else read_page_spec(options.spec)
    print(write_page(build_all(config)))


def _plan(options: argparse.Namespace) -> None:
    from weakseg.studies.plans import build_all
    from weakseg.workflow import read_config

    plans = build_all(read_config(options.configfile)).values()
    for run in {key: run for plan in plans for key, run in plan.runs.items()}.values():
        print(f"{'done' if run.record.exists() else 'open'}  {run.folder}")


def _publish(options: argparse.Namespace) -> None:
    from weakseg.workflow import publish

    publish(options.destination, options.runs, options.keep)


def _tables(options: argparse.Namespace) -> None:
    from weakseg.report.rebuild import rebuild

    made = rebuild(options.specs, options.destination, options.threads)
    print(f"{options.destination}: {len(made)} tables and figures made again from its scores")


def _verify(options: argparse.Namespace) -> None:
    from weakseg.workflow import read_config, verify_published

    print(verify_published(read_config(options.configfile)))


def _audit(options: argparse.Namespace) -> None:
    from weakseg.evaluation.audit import as_table, as_text, audit
    from weakseg.studies.plans import build_all
    from weakseg.workflow import read_config

    checks = audit(build_all(read_config(options.configfile)))
    print(as_text(checks))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        as_table(checks).to_csv(options.out, index=False)
    failed = [check.name for check in checks if check.faults]
    if failed:
        raise WeaksegError(f"audit: failed: {', '.join(failed)}")


def _score(options: argparse.Namespace) -> None:
    from weakseg.evaluation.own import Own, score
    from weakseg.plan import build
    from weakseg.runs import RESULTS
    from weakseg.workflow import read_config

    name = options.name or options.maps[0].resolve().name
    own = Own(name, options.maps, options.masks, options.masks_used, options.labels_used)
    out = options.out or RESULTS / "own" / name
    board = score(build(read_config(options.configfile)), options.dataset, own, out, options.threads)
    shown = ["method", "refinement", "operating_point", "dice", "dice_low", "dice_high", "mask_budget"]
    print(board[shown].to_string(index=False, float_format="%.3f"))
    print(f"{out}: leaderboard.md, leaderboard.csv, scores.parquet")


def _prune(options: argparse.Namespace) -> None:
    from weakseg.workflow import prune, read_config

    for folder in prune([read_config([path]) for path in options.configfile or [None]], options.delete):
        print(folder)


def _estimate(options: argparse.Namespace) -> None:
    from weakseg.estimate.forecast import as_text, forecast
    from weakseg.estimate.rates import shipped
    from weakseg.estimate.timing import Timer
    from weakseg.studies.plans import build_all, runs_of
    from weakseg.workflow import read_config

    config = read_config(options.configfile)
    runs = runs_of(build_all(config), options.targets)
    with taken(options.device) as device:
        print(as_text(forecast(runs, config, shipped(), Timer(device))))


def _profile(options: argparse.Namespace) -> None:
    from weakseg.estimate.spent import as_text, idle, spent
    from weakseg.studies.plans import build_all, runs_of
    from weakseg.workflow import read_config

    print(as_text(spent(runs_of(build_all(read_config(options.configfile)), options.targets)), idle()))


def _doctor(options: argparse.Namespace) -> None:
    from weakseg.doctor import examine
    from weakseg.workflow import read_config

    faults = 0
    for check in examine(lambda: read_config(options.configfile), options.profile):
        print(f"{check.state:8}{check.name:15}{check.text}", flush=True)
        faults += check.state == "fault"
    if faults:
        raise WeaksegError(f"doctor: {faults} {'fault' if faults == 1 else 'faults'}; mend what its line says")


def _schema(options: argparse.Namespace) -> None:
    from weakseg.catalogue_text import methods_text
    from weakseg.config import Config
    from weakseg.config_text import reference

    if options.methods:
        print(methods_text())
        return
    print(reference() if options.reference else json.dumps(Config.model_json_schema(), indent=2))


def _record_versions(_: argparse.Namespace) -> None:
    from weakseg.versions import record

    record()
