"""`scaling explain OUT`: what became of the stages in an output folder, by their files, and what a sweep as it is now
would do again and why. Asks no scheduler, imports no torch."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.selection import NAMED, chosen
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from scaling.core.stage import Stage
    from sweeps.explain import Explainer


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "explain",
        help="what became of the stages in an output folder, and why a sweep would do them again",
        description="Says of every stage in an output folder that is not complete how far it came; of single ones "
        "everything: attempts, what they wait for, what waits for them. With a sweep, what it would do again and why: "
        "which field of the spec differs.",
        epilog="examples:\n  scaling explain out\n  scaling explain out --sweep my_sweep.yaml\n"
        "  scaling explain out dit-w48d2@4x --sweep my_sweep.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep")
    parser.add_argument(
        "run_names",
        nargs="*",
        metavar="RUN",
        help="id of a stage, the beginning of one, or its slug and compute, such as dit-w48d2@4x",
    )
    parser.add_argument("--sweep", metavar="SWEEP", help="a YAML file, or the name of a shipped sweep, to compare with")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the answer. Raises UserError."""
    runs = args.out / "runs"
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder; give the --out of a sweep")
    if args.run_names:
        answer: dict[str, Any] = {"stages": _in_full(runs, args.run_names, args.sweep)}
    elif args.sweep:
        answer = {"causes": _causes(runs, args.sweep)}
    else:
        answer = _incomplete(runs)
    print(json.dumps(answer) if args.json else _text(answer))
    return 0


def _causes(runs: Path, sweep_name: str) -> list[dict[str, Any]]:
    from sweeps.explain import explain
    from sweeps.phases import outline_of
    from sweeps.spec import load_sweep

    causes = explain(outline_of(load_sweep(sweep_name), runs).stages, runs)
    return [cause.to_document() for cause in causes]


def _incomplete(runs: Path) -> dict[str, Any]:
    from scaling.core.attempts import attempts
    from scaling.core.stage import StageFolder
    from sweeps.explain import state, unfinished

    folders = [StageFolder(path) for path in sorted(runs.iterdir()) if (path / "spec.json").exists()]
    left = [(folder, state(folder)) for folder in folders]
    return {
        "complete": sum(how == "complete" for _, how in left),
        "incomplete": [
            {"id": folder.path.name, "state": how, "text": unfinished(attempts(folder)) if folder.attempts else how}
            for folder, how in left
            if how != "complete"
        ],
    }


def _in_full(runs: Path, names: Sequence[str], sweep_name: str | None) -> list[dict[str, Any]]:
    """Everything about single stages."""
    from scaling.core.attempts import attempts
    from scaling.core.stage import StageFolder
    from sweeps.explain import state

    folders = {path.name: StageFolder(path) for path in sorted(runs.iterdir()) if (path / "spec.json").exists()}
    described = {name: folder.described()[0] for name, folder in folders.items()}
    explainer = _explainer(runs, sweep_name) if sweep_name else None
    found = []
    for identity in chosen(described, names):
        stage, folder = described[identity], folders[identity]
        waiting = [name for name, other in described.items() if identity in other.parents.values()]
        found.append(
            {
                "id": identity,
                "kind": stage.kind,
                "sweep": stage.sweep,
                "compute": stage.compute,
                "what": _what(stage),
                "state": state(folder),
                "attempts": [asdict(attempt) for attempt in attempts(folder)],
                "waits_for": {parent: state(StageFolder(runs / parent)) for parent in stage.parents.values()},
                "waited_for_by": {name: state(folders[name]) for name in waiting},
                **({} if explainer is None else {"now": _now(explainer, identity)}),
            }
        )
    return found


def _explainer(runs: Path, sweep_name: str) -> "Explainer":
    from sweeps.explain import Explainer
    from sweeps.spec import load_sweep
    from sweeps.stages import common_stages, possible_stages

    sweep = load_sweep(sweep_name)
    possible = possible_stages(sweep, common_stages(sweep))
    return Explainer({stage.id: stage for stage in possible}, runs)


def _what(stage: "Stage") -> str:
    """A stage in a few words."""
    fields = stage.fields
    if stage.kind in ("dit", "trunk"):
        of = "run" if stage.kind == "dit" else "trunk of runs"
        return f"{of} of {fields['dit']['width']}x{fields['dit']['depth']} at {fields['flop_budget']:.3g} FLOPs"
    if stage.kind == "data" and fields["data"]["folder"] is not None:
        return f"videos of {stage.folder}"
    return {
        "data": "procedural worlds",
        "vae": "the VAE's training",
        "latents": "latents of every clip",
        "reference": "features of real clips",
        "reconstruction": "the VAE's metrics",
        "metrics": "a run's metrics",
    }[stage.kind]


def _now(explainer: "Explainer", identity: str) -> dict[str, Any]:
    """A stage against the sweep as it is now."""
    if identity in explainer.stages:
        return {"id": identity, "changes": []}
    successor = explainer.since(identity)
    if successor is None:
        return {"id": None, "changes": []}
    return {"id": successor[0], "changes": [reason.text for reason in successor[1]]}


def _text(answer: dict[str, Any]) -> str:
    if "stages" in answer:
        return "\n\n".join(map(_stage_text, answer["stages"]))
    if "causes" in answer:
        return "\n".join(cause["text"] for cause in answer["causes"]) or "every stage is complete"
    lines = [f"{one['id']}: {one['text']}" for one in answer["incomplete"]]
    return "\n".join([*lines, f"{answer['complete']} complete, {len(lines)} not"])


def _stage_text(stage: dict[str, Any]) -> str:
    label = ", ".join(part for part in (stage["kind"], stage["sweep"], stage["compute"]) if part)
    lines = [f"{stage['id']} ({label})", f"  what           {stage['what']}", f"  state          {stage['state']}"]
    lines += [f"  attempt {one['number']:<6} {_attempt_text(one)}" for one in stage["attempts"]]
    for title, key in (("waits for", "waits_for"), ("waited for by", "waited_for_by")):
        others = stage[key]
        for how in dict.fromkeys(others.values()):
            names = [name for name in others if others[name] == how]
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"  {title:14} {', '.join(names[:NAMED])}{more}: {how}")
    if "now" in stage:
        now = stage["now"]
        if now["id"] == stage["id"]:
            lines.append("  in the sweep   yes, as it is")
        elif now["id"] is None:
            lines.append("  in the sweep   no, and nothing like it")
        else:
            lines.append(f"  in the sweep   no, now it is {now['id']}:")
            lines += [f"                 {change}" for change in now["changes"]]
    return "\n".join(lines)


def _attempt_text(attempt: dict[str, Any]) -> str:
    words = []
    if attempt["started"]:
        words.append(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt["started"])))
    words.append(f"{attempt['seconds']:.0f} s")
    words += [f"on {attempt['host']}"] if attempt["host"] else []
    words += [f"job {attempt['job']}"] if attempt["job"] else []
    if attempt["done"] is not None:
        begun = f"from {attempt['start_update']} " if attempt["start_update"] else ""
        words.append(f"{begun}to {attempt['done']} of {attempt['total']}")
    end = "no last word: it is running, or was killed" if attempt["end"] == "silent" else attempt["end"]
    return ", ".join([*words, end]) + (f" ({attempt['message']})" if attempt["message"] else "")
