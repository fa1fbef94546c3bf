"""Chooses the precision of a sweep's matrix products on this machine: bfloat16 or float32, whichever trains faster.

It is measured once for a sweep and kept in its output folder as precision.json, so that all its runs have the same,
also where the sweep is continued on another machine. What was measured is kept in the cache, too, for the next sweep
of the same shapes on the same processor. On a GPU, nothing is measured: products are bfloat16.
"""

import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from scaling.core.errors import StageError
from scaling.core.identity import digest
from scaling.core.machine import processor
from scaling.core.precision_probe import PrecisionProbe
from scaling.core.specs import Precision, Spec, parse_spec
from scaling.core.stage_fields import DataFields, DiTFields, LatentsFields, VAEFields
from scaling.core.store import read_document, write_document
from scaling.pretrained.packages import cache_folder
from sweeps.phases import planned_phases
from sweeps.planning.updates import clip_sizes, grids_of, mean_update
from sweeps.spec import StudySpec, SweepSpec

FILE = "precision.json"
WORTH_IT = 0.9
"""Share of float32's time below which bfloat16 is taken. Where both are as fast, a measurement must not decide by
chance, and float32 is the more exact one."""
ENVIRONMENT = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")
"""Variables that decide which instructions products are made of."""


class PrecisionChoice(Spec):
    """The precision of a sweep, and why."""

    precision: Precision
    """The precision that all stages have."""
    seconds: dict[Precision, float]
    """Seconds that the training of the VAE and of all models was estimated to take in each precision."""
    processor: str
    """The processor on which it was measured."""


def chosen_precision(sweep: SweepSpec | StudySpec, out: Path) -> Precision | None:
    """The precision that the sweep's hardware names, or that was measured for this output folder before. None where it
    is not decided yet, or where GPUs do the work.

    Raises UserError where precision.json is broken.
    """
    if sweep.hardware.engine.precision or sweep.hardware.gpus:
        return sweep.hardware.engine.precision
    path = out / FILE
    return parse_spec(PrecisionChoice, read_document(path), str(path)).precision if path.exists() else None


def in_precision(sweep: SweepSpec | StudySpec, precision: Precision | None) -> SweepSpec | StudySpec:
    """The sweep, all of whose stages have this precision."""
    engine = sweep.hardware.engine.replace(precision=precision)
    return sweep.replace(hardware=sweep.hardware.replace(engine=engine))


def with_chosen_precision(sweep: SweepSpec | StudySpec, out: Path) -> SweepSpec | StudySpec:
    """The sweep in the precision that its output folder has, if one was chosen, so that a sweep that began on one
    machine does not go on in another precision elsewhere. Raises UserError where precision.json is broken."""
    return in_precision(sweep, chosen_precision(sweep, out))


def choose_precision(sweep: SweepSpec | StudySpec, out: Path) -> Precision | None:
    """`chosen_precision`, measured and kept in the output folder where it is not decided yet. The sweep's hardware has
    nothing left that is null. Raises StageError where the measurement fails."""
    precision = chosen_precision(sweep, out)
    if precision or sweep.hardware.gpus:
        return precision
    choice = _cached_choice(_probe(sweep))
    write_document(out / FILE, choice.model_dump(mode="json"))
    return choice.precision


def _probe(sweep: SweepSpec | StudySpec) -> PrecisionProbe:
    """The VAE, and the run with the largest budget for all runs."""
    stages = planned_phases(sweep, None).stages
    runs = {stage.id: stage.fields_as(DiTFields) for stage in stages.values() if stage.kind == "dit"}
    run = stages[max(runs, key=lambda identity: runs[identity].flop_budget)]
    fields, vae_stage = runs[run.id], stages[run.parents["vae"]]
    vae = vae_stage.fields_as(VAEFields)
    text = stages[run.parents["latents"]].fields_as(LatentsFields).text
    data = stages[vae_stage.parents["data"]].fields_as(DataFields).data
    grids = grids_of(clip_sizes(data), vae.vae, fields.dit.patch)
    grid, batch_tokens = max(grids, key=math.prod), fields.optim.batch_tokens
    update = mean_update(fields.dit, vae.vae, text, grids, batch_tokens, fields.seed)
    return PrecisionProbe(
        vae=vae.vae,
        vae_train=vae.train,
        crops=max(1, vae.train.batch_clips // vae_stage.engine.processes),
        vae_updates=vae.train.steps,
        dit=fields.dit,
        text=text,
        grid=grid,
        clips=max(1, batch_tokens // math.prod(grid) // run.engine.processes),
        dit_updates=sum(each.flop_budget for each in runs.values()) / update.train_flops,
        threads=run.engine.threads,
    )


def _cached_choice(probe: PrecisionProbe) -> PrecisionChoice:
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    key = digest([probe.model_dump(mode="json"), processor(), environment, version("torch")])
    path = cache_folder() / "precision" / f"{key}.json"
    if path.exists():
        return parse_spec(PrecisionChoice, read_document(path), str(path))
    choice = _measured_choice(probe)
    with suppress(OSError):  # a cache that cannot be written is not needed: the output folder keeps the choice
        path.parent.mkdir(parents=True, exist_ok=True)
        write_document(path, choice.model_dump(mode="json"))
    return choice


def _measured_choice(probe: PrecisionProbe) -> PrecisionChoice:
    command = [sys.executable, "-m", "scaling.training.precision_probe"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(probe.threads)}
    result = subprocess.run(command, input=probe.model_dump_json(), capture_output=True, text=True, env=environment)
    if result.returncode:
        raise StageError(f"the measurement of the precision failed: {result.stderr.strip()}")
    seconds: dict[Precision, float] = json.loads(result.stdout)
    precision: Precision = "bf16" if seconds["bf16"] < WORTH_IT * seconds["fp32"] else "fp32"
    return PrecisionChoice(precision=precision, seconds=seconds, processor=processor())
