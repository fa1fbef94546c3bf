"""`scaling explain OUT`: what became of the stages in an output folder, by their files, and what a sweep as it is now
would run again and why. Asks no scheduler, imports no torch."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from scaling.cli.options import Json, RunName, SweepFolder
from scaling.cli.selection import first_names, select

if TYPE_CHECKING:
    from scaling.core.attempts import Attempt
    from sweeps.explain import Cause, Explainer
    from sweeps.stage_details import StageDetails


def run(
    out: SweepFolder,
    /,
    *runs: RunName,
    sweep: Annotated[str | None, Parameter(help="a YAML file, or the name of a shipped sweep, to compare with")] = None,
    as_json: Json = False,
) -> int:
    """Prints of every stage in an output folder that is not complete how far it came; of named stages all that is
    known: attempts, what they wait for, what waits for them. With a sweep it prints which stages would run again and
    why: which field of the spec differs.

    examples:
      scaling explain out
      scaling explain out --sweep my_sweep.yaml
      scaling explain out dit-w48d2@4x --sweep my_sweep.yaml
    """
    from sweeps.stage_details import StageFolders

    folders = StageFolders(out)
    if runs:
        explainer = _explainer(sweep, folders.runs) if sweep else None
        stages = [folders.details(identity, explainer) for identity in select(folders.stages, runs)]
        document: dict[str, Any] = {"stages": [stage.to_document() for stage in stages]}
        text = "\n\n".join(map(_details_text, stages))
    elif sweep:
        causes = _causes(sweep, folders.runs)
        document = {"causes": [cause.to_document() for cause in causes]}
        text = "\n".join(map(str, causes)) or "every stage is complete"
    else:
        document = folders.incomplete()
        text = _incomplete_text(document)
    print(json.dumps(document) if as_json else text)
    return 0


def _explainer(sweep_name: str, runs: Path) -> "Explainer":
    """Compares a folder of runs with all stages that a sweep may come to run."""
    from sweeps.explain import Explainer
    from sweeps.load import load_sweep
    from sweeps.phases import possible_stages
    from sweeps.stages import StageBuilder

    sweep = load_sweep(sweep_name)
    return Explainer(possible_stages(sweep, StageBuilder.for_sweep(sweep)), runs)


def _causes(sweep_name: str, runs: Path) -> "list[Cause]":
    from sweeps.explain import explain
    from sweeps.load import load_sweep
    from sweeps.phases import planned_phases

    return explain(planned_phases(load_sweep(sweep_name), runs).stages, runs)


def _incomplete_text(document: dict[str, Any]) -> str:
    lines = [f"{stage['id']}: {stage['text']}" for stage in document["incomplete"]]
    return "\n".join([*lines, f"{document['complete']} complete, {len(lines)} not"])


def _details_text(stage: "StageDetails") -> str:
    label = ", ".join(part for part in (stage.kind, stage.sweep, stage.compute) if part)
    lines = [f"{stage.id} ({label})", f"  what           {stage.what}", f"  state          {stage.state}"]
    lines += [f"  attempt {attempt.number:<6} {_attempt_text(attempt)}" for attempt in stage.attempts]
    for title, states in (("waits for", stage.waits_for), ("waited for by", stage.waited_for_by)):
        for state in dict.fromkeys(states.values()):
            lines.append(f"  {title:14} {first_names([name for name in states if states[name] == state])}: {state}")
    if stage.now is None:
        return "\n".join(lines)
    if stage.now.id == stage.id:
        lines.append("  in the sweep   yes, unchanged")
    elif stage.now.id is None:
        lines.append("  in the sweep   no, and no stage like it")
    else:
        lines.append(f"  in the sweep   no; {stage.now.id} takes its place:")
        lines += [f"                 {change}" for change in stage.now.changes]
    return "\n".join(lines)


def _attempt_text(attempt: "Attempt") -> str:
    parts = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.started))] if attempt.started else []
    parts.append(f"{attempt.seconds:.0f} s")
    parts += [f"on {attempt.host}"] if attempt.host else []
    parts += [f"job {attempt.job}"] if attempt.job else []
    if attempt.done is not None:
        start = f"from {attempt.start_update} " if attempt.start_update else ""
        parts.append(f"{start}to {attempt.done} of {attempt.total}")
    end = "its end is not recorded: it is running, or was killed" if attempt.end == "silent" else attempt.end
    return ", ".join([*parts, end]) + (f" ({attempt.message})" if attempt.message else "")
