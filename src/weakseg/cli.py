"""The command line: one command per stage, and a few for people."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from weakseg import catalogue
from weakseg.errors import WeaksegError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 1 with one plain message for bad input."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except WeaksegError as error:
        print(f"weakseg: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weakseg", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in catalogue.STAGES:
        stage = commands.add_parser(name, help=f"run the stage {name} of a spec file")
        stage.add_argument("--spec", type=Path, required=True, help="results/.state/specs/<key>.json")
        stage.add_argument("--threads", type=int, default=1)
        stage.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
        stage.set_defaults(command=_stage)
    publish = commands.add_parser("publish", help="copy tables, figures and models to their place")
    publish.add_argument("--destination", type=Path, required=True)
    publish.add_argument("runs", type=Path, nargs="+", help="run folders to publish from")
    publish.add_argument("--keep", type=Path, nargs="+", default=[], help="files of other targets, to leave there")
    publish.set_defaults(command=_publish)
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
    for command in (plan, verify, audit, score, prune):
        command.add_argument("--configfile", type=Path, action="append", help="as given to snakemake", default=[])
    schema = commands.add_parser("schema", help="print the JSON schema or the key reference of the configuration")
    schema.add_argument("--reference", action="store_true", help="the table of keys, as Markdown")
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

    if options.device == "cuda":
        _require_cuda()
    if not options.spec.is_file():
        raise WeaksegError(f"{options.spec}: no such spec file; `snakemake -n` writes them")
    execute(json.loads(options.spec.read_text()), options.threads, options.device)


def _require_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise WeaksegError("device cuda: no GPU that torch can use on this machine; set device to cpu in the profile")


def _plan(options: argparse.Namespace) -> None:
    from weakseg.studies.plans import build_all
    from weakseg.workflow import read_config

    plans = build_all(read_config(options.configfile)).values()
    for run in {key: run for plan in plans for key, run in plan.runs.items()}.values():
        print(f"{'done' if run.record.exists() else 'open'}  {run.folder}")


def _publish(options: argparse.Namespace) -> None:
    from weakseg.workflow import publish

    publish(options.destination, options.runs, options.keep)


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


def _schema(options: argparse.Namespace) -> None:
    from weakseg.config import Config
    from weakseg.config_text import reference

    print(reference() if options.reference else json.dumps(Config.model_json_schema(), indent=2))


def _record_versions(_: argparse.Namespace) -> None:
    from weakseg.versions import record

    record()
