"""What a stage costs in closed form: FLOPs, seconds of a CPU core, bytes. The machine is in `sweeps.planning.machines`.
No torch.

Not counted, because they are small: the VAE's metrics after its training, the text encoder, the videos of samples. The
perceptual loss and the discriminator of a VAE are not counted either, and are not small.
"""

import math
from collections.abc import Callable

from scaling.accounting import flops
from scaling.core.specs import DataSpec, FVDSpec, TextSpec
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
from sweeps.planning.stage_cost import StageCost, TrainingCost
from sweeps.planning.updates import ClipSize
from sweeps.planning.workload import Workload

WORLD_FRAME_SECONDS, WORLD_PIXEL_SECONDS = 1.4e-4, 2.0e-8
"""Seconds to draw and encode a frame of a world on one core of an AMD EPYC, and for each of its pixels: fitted to .22,
1.43 and 5.2 ms at 64 x 64, 256 x 256 and 512 x 512, by `make_worlds(folder, WorldSpec(count=6, width=256, height=256),
processes=1)`."""
WORLD_SIDE_BYTES = 2.5
"""Bytes of a world's video file for each frame and the square root of its pixels: 2.9, 2.1 and 2.1 at these sizes."""
FLOAT = 4
"""Bytes of a 32-bit float."""
FEATURES = 400
"""Features of a clip by I3D."""
KEPT_CHECKPOINTS = 2
"""Checkpoints that a training keeps."""


class Costs:
    """The costs of the stages of a sweep."""

    def __init__(self, find: Callable[[str], Stage | None], clip: ClipSize | None, clip_count: int | None) -> None:
        """`find` gives a stage by its id, for stages whose costs depend on what their parents make. `clip` stands for
        all clips; by default the worlds', or the largest that the data spec allows, square. `clip_count` is how many
        there are where the data is not worlds."""
        self.find, self.clip, self.clip_count = find, clip, clip_count
        self._workloads: dict[tuple[object, ...], Workload] = {}

    def stage_cost(self, stage: Stage) -> StageCost:
        """What this stage costs."""
        match stage.fields:
            case DataFields() as fields:
                return self._data(fields.data)
            case VAEFields() as fields:
                return self._vae(fields)
            case LatentsFields():
                return self._latents(stage)
            case ReferenceFields() as fields:
                i3d = flops.I3D_FLOPS_PER_FRAME * fields.fvd.frames
                return StageCost(other_flops=fields.fvd.clips * i3d, disk_bytes=FLOAT * FEATURES * fields.fvd.clips)
            case ReconstructionFields():
                return self._reconstruction(stage)
            case TrunkFields() as fields:
                return self._trunk(stage, fields)
            case DiTFields() as fields:
                return self._dit(stage, fields)
            case MetricsFields() as fields:
                return self._metrics(stage, fields)

    def _data(self, data: DataSpec) -> StageCost:
        worlds = data.worlds
        if worlds is None:
            return StageCost(seconds=None)  # to read all of a user's videos; they stay where they are
        count_per_size = worlds.count / len(worlds.sizes)
        areas = [(size.frames, size.height * size.width) for size in worlds.sizes]
        return StageCost(
            seconds=count_per_size * sum(n * (WORLD_FRAME_SECONDS + area * WORLD_PIXEL_SECONDS) for n, area in areas),
            disk_bytes=count_per_size * sum(n * math.sqrt(area) * WORLD_SIDE_BYTES for n, area in areas),
        )

    def _vae(self, fields: VAEFields) -> StageCost:
        train, crop = fields.train, fields.train.crop
        total = train.steps * train.batch_clips * flops.vae_training(fields.vae, train.crop_frames, crop, crop)
        disk = _training_bytes(flops.vae_params(fields.vae), averages=1, finished=True)
        return StageCost(TrainingCost(None, None, total, total, train.steps), disk_bytes=disk)

    def _latents(self, stage: Stage) -> StageCost:
        workload = self._workload(stage)
        if workload is None or workload.clip_count is None:
            return StageCost(other_flops=None, disk_bytes=None)
        size = FLOAT * workload.latent_numbers
        return StageCost(other_flops=workload.clip_count * workload.encode, disk_bytes=workload.clip_count * size)

    def _reconstruction(self, stage: Stage) -> StageCost:
        workload, fvd = self._workload(stage), self._fvd(stage)
        if workload is None or fvd is None:
            return StageCost(other_flops=None, disk_bytes=None)
        flops_per_clip = workload.encode_at_least(fvd.frames) + workload.decode_at_least(fvd.frames)
        flops_per_clip += flops.I3D_FLOPS_PER_FRAME * fvd.frames
        return StageCost(other_flops=fvd.clips * flops_per_clip, disk_bytes=FLOAT * FEATURES * fvd.clips)

    def _metrics(self, stage: Stage, fields: MetricsFields) -> StageCost:
        run, fvd = self.find(stage.parents["dit"]), self._fvd(stage)
        workload = self._workload(stage)
        if run is None or workload is None or fvd is None:
            return StageCost(other_flops=None, disk_bytes=None)
        flops_per_clip = workload.sampling(run.fields_as(DiTFields).dit, fields.evaluation) + workload.decode_at_least(
            fvd.frames
        )
        flops_per_clip += flops.I3D_FLOPS_PER_FRAME * fvd.frames
        return StageCost(other_flops=fvd.clips * flops_per_clip, disk_bytes=FLOAT * FEATURES * fvd.clips)

    def _trunk(self, stage: Stage, fields: TrunkFields) -> StageCost:
        """The updates before the rate falls, less those of the shorter trunk."""
        workload = self._workload(stage)
        if workload is None:
            return StageCost(other_flops=None, disk_bytes=None)
        full, kept_fraction = workload.training(fields), 1 - fields.optim.decay_fraction
        before = self.find(stage.parents["trunk"]) if "trunk" in stage.parents else None
        done_flops = kept_fraction * workload.training(before.fields_as(TrunkFields)).train_flops if before else 0.0
        return StageCost(
            TrainingCost(
                full.n_params,
                kept_fraction * (full.num_tokens or 0),
                kept_fraction * full.train_flops,
                kept_fraction * full.train_flops - done_flops,
                round(kept_fraction * full.steps),
            ),
            disk_bytes=_training_bytes(workload.weights(fields.dit), len(fields.optim.ema_widths), finished=False),
        )

    def _dit(self, stage: Stage, fields: DiTFields) -> StageCost:
        """The training with the samples and the validation that are part of a run."""
        workload = self._workload(stage)
        if workload is None:
            return StageCost(other_flops=None, disk_bytes=None)
        full, evaluation = workload.training(fields), fields.evaluation
        spent = full.train_flops * (fields.optim.decay_fraction if "trunk" in stage.parents else 1.0)
        training = TrainingCost(full.n_params, full.num_tokens, full.train_flops, spent, full.steps)
        videos = len(evaluation.sample_at) * (len(evaluation.prompts) or evaluation.prompt_count)
        held_out = evaluation.val_clips
        if workload.clip_count is not None:
            held_out = min(held_out, math.ceil(workload.clip_count / workload.data.holdout_every))
        validation = held_out * evaluation.val_times * workload.forward(fields.dit)
        decode = workload.decode_at_least(1)
        return StageCost(
            training,
            other_flops=videos * (workload.sampling(fields.dit, evaluation) + decode) + validation,
            disk_bytes=_training_bytes(workload.weights(fields.dit), len(fields.optim.ema_widths), finished=True),
        )

    def _fvd(self, stage: Stage) -> FVDSpec | None:
        reference = self.find(stage.parents["reference"])
        return None if reference is None else reference.fields_as(ReferenceFields).fvd

    def _workload(self, stage: Stage) -> Workload | None:
        """The workload of the stage's data, VAE and text; None where a parent is not known."""
        vae = self.find(stage.parents["vae"])
        data = self.find(vae.parents["data"]) if vae is not None else None
        if vae is None or data is None:
            return None
        latents = stage if stage.kind == "latents" else self.find(stage.parents.get("latents", ""))
        text = latents.fields_as(LatentsFields).text if latents is not None else TextSpec()
        parts = (data.fields_as(DataFields).data, vae.fields_as(VAEFields).vae, text)
        if parts not in self._workloads:
            self._workloads[parts] = Workload(*parts, self.clip, self.clip_count)
        return self._workloads[parts]


def _training_bytes(weights: int, averages: int, *, finished: bool) -> float:
    """Checkpoints of weights, averages and two moments, and the averages that a finished stage leaves."""
    return FLOAT * weights * (KEPT_CHECKPOINTS * (1 + averages + 2) + (1 if finished else 0))
