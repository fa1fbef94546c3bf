"""From a sweep to its stages: which there are, and what each needs. What they cost, `sweeps.planning.plan` says. No
torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.core.stage import (
    DataFields,
    DiTFields,
    LatentsFields,
    MetricsFields,
    ReconstructionFields,
    ReferenceFields,
    Stage,
    TrunkFields,
    VAEFields,
)
from scaling.data.index import folder_manifest
from scaling.text.source import encoder_manifest, is_folder, pin
from sweeps.spec import SweepSpec


@dataclass(frozen=True)
class Common:
    """The stages that every run of a sweep shares."""

    data: Stage
    vae: Stage
    latents: Stage
    reference: Stage
    reconstruction: Stage
    """Measures the VAE. No run waits for it."""

    def stages(self) -> list[Stage]:
        """Those that runs and their metrics need."""
        return [self.data, self.vae, self.latents, self.reference]


def common_stages(sweep: SweepSpec) -> Common:
    """Data, VAE, latents, the metrics' reference, the VAE's metrics. Hashes a user's folder; raises UserError where it
    is not usable."""
    placed = {"sweep": sweep.name, "engine": sweep.hardware.threads_of(alone=False)}
    alone = {"sweep": sweep.name, "engine": sweep.hardware.threads_of(alone=True)}
    data = _data_stage(sweep)
    fields = VAEFields(vae=sweep.vae, train=sweep.vae_train)
    trained = {"sweep": sweep.name, "engine": sweep.hardware.training_vae()}
    vae = Stage(slug="vae", fields=fields, parents={"data": data.id}, **trained)
    latents = _latents_stage(sweep, {"data": data.id, "vae": vae.id}, alone)
    against = ReferenceFields(fvd=sweep.fvd)
    reference = Stage(slug="reference", fields=against, parents={"data": data.id}, **placed)
    compared, measures = {"vae": vae.id, "reference": reference.id}, ReconstructionFields(seed=sweep.evaluation.seed)
    reconstruction = Stage(slug="reconstruction", fields=measures, parents=compared, **placed)
    return Common(data, vae, latents, reference, reconstruction)


def _data_stage(sweep: SweepSpec) -> Stage:
    """A user's videos are known by their manifest: the same ones elsewhere are the same data."""
    spec, placed = sweep.data, {"sweep": sweep.name, "engine": sweep.hardware.threads_of(alone=False)}
    if spec.folder is None:
        return Stage(slug="data", fields=DataFields(data=spec), parents={}, **placed)
    captions = Path(spec.captions) if spec.captions else None
    manifest = folder_manifest(Path(spec.folder), captions, spec.images)
    fields = DataFields(data=spec.replace(folder=".", captions=None), manifest=manifest)
    return Stage(slug="data", fields=fields, parents={}, folder=spec.folder, captions=spec.captions or "", **placed)


def _latents_stage(sweep: SweepSpec, parents: dict[str, str], placed: dict[str, Any]) -> Stage:
    """A user's text encoder is known by its manifest, one on the hub by its commit."""
    text, folder = sweep.text, ""
    fields = LatentsFields(text=text)
    if is_folder(text.encoder):
        folder = text.encoder
        manifest = encoder_manifest(Path(folder), text)
        fields = LatentsFields(text=text.replace(encoder="."), manifest=manifest)
    elif text.encoder != "minilm":
        fields = LatentsFields(text=pin(text))
    return Stage(slug="latents", fields=fields, parents=parents, folder=folder, **placed)


def run_stage(sweep: SweepSpec, common: Common, multiple: int, size: str) -> Stage:
    """The `dit` stage of one model at one budget. Of a branching sweep, the runs of the ladder go on from a trunk, and
    are sampled at the moments that come after it."""
    evaluation, parents = sweep.evaluation, {"vae": common.vae.id, "latents": common.latents.id}
    if trunk := trunk_stage(sweep, common, multiple, size):
        parents["trunk"] = trunk.id
        after = tuple(share for share in evaluation.sample_at if share > 1 - sweep.optim.decay_fraction)
        evaluation = evaluation.replace(sample_at=after)
    fields = DiTFields(**_training(sweep, multiple, size), evaluation=evaluation)
    return Stage(slug=f"dit-{size}", fields=fields, parents=parents, **_placed(sweep, multiple, size))


def trunk_stage(sweep: SweepSpec, common: Common, multiple: int, size: str) -> Stage | None:
    """The `trunk` stage that this run goes on from, which goes on from that of the next smaller budget of its size;
    None where the sweep does not branch, and for the target, whose size is not known before the ladder is trained."""
    budgets = [one for one in sorted(sweep.ladder) if size in sweep.ladder[one] and one <= multiple]
    if not sweep.branches or multiple not in budgets:
        return None
    parents, stage = {"vae": common.vae.id, "latents": common.latents.id}, None
    for budget in budgets:
        fields = TrunkFields(**_training(sweep, budget, size))
        stage = Stage(slug=f"trunk-{size}", fields=fields, parents=parents, **_placed(sweep, budget, size))
        parents = {**parents, "trunk": stage.id}
    return stage


def _training(sweep: SweepSpec, multiple: int, size: str) -> dict[str, Any]:
    return {
        "dit": sweep.size(size),
        "optim": sweep.optim,
        "flop_budget": sweep.base_flops * multiple,
        "seed": sweep.seed,
    }


def _placed(sweep: SweepSpec, multiple: int, size: str) -> dict[str, Any]:
    return {
        "sweep": sweep.name,
        "phase": "training",
        "size": size,
        "multiple": multiple,
        "engine": sweep.hardware.training(alone=multiple == sweep.target),
    }


def metrics_stage(sweep: SweepSpec, common: Common, run: Stage) -> Stage:
    """The `metrics` stage of a run."""
    parents = {"dit": run.id, "vae": common.vae.id, "latents": common.latents.id, "reference": common.reference.id}
    return Stage(
        slug="metrics",
        fields=MetricsFields(evaluation=sweep.evaluation),
        parents=parents,
        sweep=sweep.name,
        phase="metrics",
        size=run.size,
        multiple=run.multiple,
        engine=sweep.hardware.threads_of(alone=False),
    )


def ladder_stages(sweep: SweepSpec, common: Common) -> list[Stage]:
    """The runs that the law is fitted to, dearest first: a long run that starts last would run alone."""
    return [run_stage(sweep, common, multiple, size) for multiple, size in _dearest_first(sweep)]


def trunk_stages(sweep: SweepSpec, common: Common) -> list[Stage]:
    """What those runs go on from."""
    trunks = [trunk_stage(sweep, common, multiple, size) for multiple, size in _dearest_first(sweep)]
    return [trunk for trunk in trunks if trunk]


def _dearest_first(sweep: SweepSpec) -> list[tuple[int, str]]:
    multiples = sorted(sweep.ladder, reverse=True)
    return [(multiple, size) for multiple in multiples for size in reversed(sweep.ladder[multiple])]


def possible_stages(sweep: SweepSpec, common: Common) -> list[Stage]:
    """Every stage that the sweep may come to, whatever its runs will say: the target in all its sizes, and the metrics
    of every run."""
    runs = [
        *ladder_stages(sweep, common),
        *(run_stage(sweep, common, sweep.target, size) for size in sweep.target_sizes),
    ]
    metrics = [metrics_stage(sweep, common, run) for run in runs]
    return [*common.stages(), common.reconstruction, *trunk_stages(sweep, common), *runs, *metrics]
