"""From runs to stages: which there are, and what each needs. Stages that several runs share are made once. What they
cost is in `sweeps.planning`. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.core.label import Label
from scaling.core.specs import DataSpec, EngineSpec, TextSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import (
    DataFields,
    DiTFields,
    LatentsFields,
    MetricsFields,
    ReconstructionFields,
    ReferenceFields,
    TrunkFields,
    VAEFields,
)
from scaling.data.manifest import folder_manifest
from scaling.text.source import encoder_manifest, is_folder, pin
from sweeps.hardware import HardwareSpec
from sweeps.ladder import target_run
from sweeps.settings import Run, RunSettings
from sweeps.spec import StudySpec, SweepSpec


@dataclass(frozen=True)
class SharedStages:
    """The stages that all runs of the same data, VAE and text share."""

    data: Stage
    vae: Stage
    latents: Stage
    reference: Stage
    reconstruction: Stage
    """Measures the VAE. No run waits for it."""


@dataclass
class StageBuilder:
    """Makes the stages of a sweep's runs. A user's folder of videos is hashed once."""

    sweep: str
    """Name of the sweep."""
    hardware: HardwareSpec
    _shared: dict[tuple[object, ...], SharedStages] = field(default_factory=dict)
    _data: dict[DataSpec, Stage] = field(default_factory=dict)

    @classmethod
    def for_sweep(cls, sweep: SweepSpec | StudySpec) -> "StageBuilder":
        """The builder for a sweep."""
        return cls(sweep.name, sweep.hardware)

    def shared(self, settings: RunSettings) -> SharedStages:
        """Data, VAE, latents, the reference of the metrics, the metrics of the VAE. Hashes a user's folder; raises
        UserError where it is not usable."""
        parts = (settings.data, settings.vae, settings.vae_train, settings.text, settings.fvd, settings.evaluation.seed)
        if parts not in self._shared:
            self._shared[parts] = self._make_shared(settings)
        return self._shared[parts]

    def run(self, run: Run, phase: str = "training") -> Stage:
        """The `dit` stage of a run."""
        spec = run.spec
        parents = self._training_parents(run)
        if trunks := self.trunks(run):
            parents["trunk"] = trunks[-1].id
        fields = DiTFields(
            dit=spec.dit, optim=spec.optim, flop_budget=spec.flop_budget, seed=spec.seed, evaluation=spec.evaluation
        )
        return self._stage(f"dit-{run.slug}", fields, parents, self._training_engine(run), self._label(run, phase))

    def target(self, sweep: SweepSpec, size: str) -> Stage:
        """The `dit` stage of the target in one of its sizes."""
        return self.run(target_run(sweep, size), "target")

    def trunks(self, run: Run) -> list[Stage]:
        """The `trunk` stages that a run continues, each of which continues the one before."""
        spec, parents, stages = run.spec, self._training_parents(run), list[Stage]()
        for budget in run.trunk_budgets:
            fields = TrunkFields(dit=spec.dit, optim=spec.optim, flop_budget=budget, seed=spec.seed)
            multiple = run.multiple and float(f"{run.multiple * budget / spec.flop_budget:.6g}")
            label = self._label(run, "trunks").replace(multiple=multiple)
            stages.append(self._stage(f"trunk-{run.slug}", fields, parents, self._training_engine(run), label))
            parents = {**parents, "trunk": stages[-1].id}
        return stages

    def metrics(self, run: Run, stage: Stage, phase: str = "metrics") -> Stage:
        """The `metrics` stage of a run whose `dit` stage is given."""
        shared = self.shared(run.spec)
        parents = {
            "dit": stage.id,
            "vae": shared.vae.id,
            "latents": shared.latents.id,
            "reference": shared.reference.id,
        }
        fields = MetricsFields(evaluation=run.spec.evaluation)
        return self._stage("metrics", fields, parents, self._engine(alone=False), self._label(run, phase))

    def _make_shared(self, settings: RunSettings) -> SharedStages:
        data = self._data_stage(settings.data)
        vae = self._stage(
            "vae",
            VAEFields(vae=settings.vae, train=settings.vae_train),
            {"data": data.id},
            self.hardware.training_vae(),
        )
        latents = self._latents_stage(settings.text, {"data": data.id, "vae": vae.id})
        reference = self._stage(
            "reference", ReferenceFields(fvd=settings.fvd), {"data": data.id}, self._engine(alone=False)
        )
        reconstruction = self._stage(
            "reconstruction",
            ReconstructionFields(seed=settings.evaluation.seed),
            {"vae": vae.id, "reference": reference.id},
            self._engine(alone=False),
        )
        return SharedStages(data, vae, latents, reference, reconstruction)

    def _data_stage(self, spec: DataSpec) -> Stage:
        """A user's videos are identified by their manifest: the same videos in another folder are the same data."""
        if spec in self._data:
            return self._data[spec]
        engine = self._engine(alone=False)
        if spec.folder is None:
            stage = self._stage("data", DataFields(data=spec), {}, engine)
        else:
            captions = Path(spec.captions) if spec.captions else None
            manifest = folder_manifest(Path(spec.folder), captions, spec.images)
            fields = DataFields(data=spec.replace(folder=".", captions=None), manifest=manifest)
            stage = self._stage("data", fields, {}, engine, folder=spec.folder, captions=spec.captions or "")
        self._data[spec] = stage
        return stage

    def _latents_stage(self, text: TextSpec, parents: dict[str, str]) -> Stage:
        """A user's text encoder is identified by its manifest, one on the hub by its commit."""
        folder, fields = "", LatentsFields(text=text)
        if is_folder(text.encoder):
            folder = text.encoder
            manifest = encoder_manifest(Path(folder), text)
            fields = LatentsFields(text=text.replace(encoder="."), manifest=manifest)
        elif text.encoder != "minilm":
            fields = LatentsFields(text=pin(text))
        return self._stage("latents", fields, parents, self._engine(alone=True), folder=folder)

    def _stage(
        self,
        slug: str,
        fields: Any,
        parents: dict[str, str],
        engine: EngineSpec,
        label: Label | None = None,
        **source: str,
    ) -> Stage:
        label = label or Label(sweep=self.sweep)
        return Stage(slug=slug, fields=fields, parents=parents, engine=engine, **label.model_dump(), **source)

    def _label(self, run: Run, phase: str) -> Label:
        return Label(sweep=self.sweep, phase=phase, size=run.size, multiple=run.multiple, axes=run.axes)

    def _training_parents(self, run: Run) -> dict[str, str]:
        shared = self.shared(run.spec)
        return {"vae": shared.vae.id, "latents": shared.latents.id}

    def _engine(self, *, alone: bool) -> EngineSpec:
        return self.hardware.single(alone=alone)

    def _training_engine(self, run: Run) -> EngineSpec:
        return self.hardware.training(alone=run.alone)
