"""What a stage costs, in closed form: FLOPs, seconds of a CPU, bytes. On which machine, and for how long, it does not
know; `sweeps.planning.machines` does. No torch.

Left out, because they are small: the VAE's own measuring after its training, the text encoder, the videos of samples.
The perceptual loss and the discriminator of a VAE are left out too, and are not small.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from scaling.accounting import flops
from scaling.accounting.geometry import Grid, latent_size, token_grid
from scaling.core.errors import UserError
from scaling.core.specs import DiTSpec, EvalSpec
from scaling.core.stage import DiTFields, MetricsFields, Stage, TrainingFields, VAEFields
from scaling.data.batching import TokenBatches
from scaling.data.clips import world_clips
from sweeps.spec import SweepSpec

SAMPLED_UPDATES = 64
"""Updates whose mean stands for all of a run, where clips have several sizes."""
WORLD_FRAME_SECONDS, WORLD_PIXEL_SECONDS = 1.4e-4, 2.0e-8
"""To draw and encode a frame of a world on one core of an AMD EPYC, and for each of its pixels: fitted to .22, 1.43 and
5.2 ms at 64 x 64, 256 x 256 and 512 x 512, by `make_worlds(folder, WorldSpec(count=6, width=256, height=256),
processes=1)`."""
WORLD_SIDE_BYTES = 2.5
"""Of a world's video file, for each frame and the root of its pixels: 2.9, 2.1 and 2.1 there."""
FLOAT = 4
"""Bytes."""
FEATURES = 400
"""Numbers that I3D makes of a clip."""
KEPT_CHECKPOINTS = 2

ClipSize = tuple[int, int, int]
"""(frames, height, width)."""
Counts = tuple[tuple[Grid, int], ...]
"""Tokens along t, h, w, and how many clips have them."""


@dataclass(frozen=True)
class Training:
    """What a training comes to. N, D and C are the law's: parameters without embeddings, tokens, training FLOPs."""

    n_params: int | None
    """None for a VAE, which no law is fitted to."""
    num_tokens: float | None
    train_flops: float
    """Behind the weights at its end."""
    spent_flops: float
    """Of this stage itself: not those of the trunk that it goes on from."""
    steps: int
    """From the very beginning."""


@dataclass(frozen=True)
class Cost:
    """Of one stage, on any machine. None is not known before the data is there."""

    training: Training | None = None
    """By all of its processes; None where nothing is trained."""
    other_flops: float | None = 0.0
    """By one process: encoding, sampling, measuring."""
    seconds: float | None = 0.0
    """Of one CPU core, for work that is not counted in FLOPs."""
    disk_bytes: float | None = 0.0


class Costs:
    """The costs of the stages of one sweep."""

    def __init__(
        self, sweep: SweepSpec, find: Callable[[str], Stage | None], clip: ClipSize | None, clip_count: int | None
    ) -> None:
        """`find` gives a stage by its id, for stages that cost what their parents make of them. `clip` stands for all
        clips; by default the worlds', or the largest that the data spec allows, square. `clip_count` is how many there
        are where the data is not worlds."""
        self.sweep, self.find = sweep, find
        self.sizes = _clip_sizes(sweep, clip)
        self.grids = tuple(token_grid(latent_size(*size, sweep.vae), DiTSpec().patch) for size in self.sizes)
        worlds = sweep.data.worlds
        self.clip_count = len(world_clips(worlds, sweep.data)) * worlds.count / len(worlds.sizes) if worlds else None
        if clip_count is not None:
            self.clip_count = clip_count
        compared = [size for size in self.sizes if size[0] >= sweep.fvd.frames] or self.sizes
        self.encode = _mean(flops.vae_encode(sweep.vae, *size) for size in self.sizes)
        self.encode_compared = _mean(flops.vae_encode(sweep.vae, *size) for size in compared)
        self.decode_compared = _mean(flops.vae_decode(sweep.vae, *size) for size in compared)
        self.i3d = flops.I3D_FLOPS_PER_FRAME * sweep.fvd.frames
        self._forwards: dict[DiTSpec, float] = {}

    def of(self, stage: Stage) -> Cost:
        """What this stage costs."""
        return {
            "data": self._data,
            "vae": self._vae,
            "latents": self._latents,
            "reference": self._reference,
            "reconstruction": self._reconstruction,
            "trunk": self._trunk,
            "dit": self._dit,
            "metrics": self._metrics,
        }[stage.kind](stage)

    def _data(self, stage: Stage) -> Cost:
        worlds = self.sweep.data.worlds
        if worlds is None:
            return Cost(seconds=None)  # to read all of a user's videos; they stay where they are
        each = worlds.count / len(worlds.sizes)
        areas = [(size.frames, size.height * size.width) for size in worlds.sizes]
        return Cost(
            seconds=each * sum(n * (WORLD_FRAME_SECONDS + area * WORLD_PIXEL_SECONDS) for n, area in areas),
            disk_bytes=each * sum(n * math.sqrt(area) * WORLD_SIDE_BYTES for n, area in areas),
        )

    def _vae(self, stage: Stage) -> Cost:
        fields = stage.fields_as(VAEFields)
        train, one_clip = (
            fields.train,
            flops.vae_training(fields.vae, fields.train.crop_frames, *2 * [fields.train.crop]),
        )
        total = train.steps * train.batch_clips * one_clip
        disk = _training_bytes(flops.vae_params(fields.vae), averages=1, finished=True)
        return Cost(Training(None, None, total, total, train.steps), disk_bytes=disk)

    def _latents(self, stage: Stage) -> Cost:
        if self.clip_count is None:
            return Cost(other_flops=None, disk_bytes=None)
        tokens = _mean(map(math.prod, self.grids))
        size = FLOAT * tokens * DiTSpec().patch ** 2 * self.sweep.vae.latent_channels
        return Cost(other_flops=self.clip_count * self.encode, disk_bytes=self.clip_count * size)

    def _reference(self, stage: Stage) -> Cost:
        clips = self.sweep.fvd.clips
        return Cost(other_flops=clips * self.i3d, disk_bytes=FLOAT * FEATURES * clips)

    def _reconstruction(self, stage: Stage) -> Cost:
        clips, each = self.sweep.fvd.clips, self.encode_compared + self.decode_compared + self.i3d
        return Cost(other_flops=clips * each, disk_bytes=FLOAT * FEATURES * clips)

    def _metrics(self, stage: Stage) -> Cost:
        run, clips = self.find(stage.parents["dit"]), self.sweep.fvd.clips
        disk = FLOAT * FEATURES * clips
        if run is None:
            return Cost(other_flops=None, disk_bytes=disk)
        evaluation = stage.fields_as(MetricsFields).evaluation
        each = self._sampling(run.fields_as(DiTFields).dit, evaluation) + self.decode_compared + self.i3d
        return Cost(other_flops=clips * each, disk_bytes=disk)

    def _trunk(self, stage: Stage) -> Cost:
        """The updates before the rate falls, less those of the shorter trunk."""
        fields = stage.fields_as(TrainingFields)
        whole, kept = self._whole(fields), 1 - fields.optim.decay_fraction
        before = self.find(stage.parents["trunk"]) if "trunk" in stage.parents else None
        done = kept * self._whole(before.fields_as(TrainingFields)).train_flops if before else 0.0
        weights = self._weights(fields.dit)
        return Cost(
            Training(
                whole.n_params,
                kept * (whole.num_tokens or 0),
                kept * whole.train_flops,
                kept * whole.train_flops - done,
                round(kept * whole.steps),
            ),
            disk_bytes=_training_bytes(weights, len(fields.optim.ema_widths), finished=False),
        )

    def _dit(self, stage: Stage) -> Cost:
        """With the samples and the validation that are part of a run."""
        fields = stage.fields_as(DiTFields)
        whole, evaluation = self._whole(fields), fields.evaluation
        spent = whole.train_flops * (fields.optim.decay_fraction if "trunk" in stage.parents else 1.0)
        training = Training(whole.n_params, whole.num_tokens, whole.train_flops, spent, whole.steps)
        videos = len(evaluation.sample_at) * (len(evaluation.prompts) or evaluation.prompt_count)
        held_out = evaluation.val_clips
        if self.clip_count is not None:
            held_out = min(held_out, math.ceil(self.clip_count / self.sweep.data.holdout_every))
        validation = held_out * evaluation.val_times * self._forward(fields.dit)
        return Cost(
            training,
            other_flops=videos * (self._sampling(fields.dit, evaluation) + self.decode_compared) + validation,
            disk_bytes=_training_bytes(self._weights(fields.dit), len(fields.optim.ema_widths), finished=True),
        )

    def _whole(self, fields: TrainingFields) -> Training:
        """A run from its first update to its last."""
        text, channels = self.sweep.text, self.sweep.vae.latent_channels
        counts, updates = _clips_of_updates(self.grids, fields.optim.batch_tokens, fields.seed)
        per_step = _update_flops(fields.dit, channels, counts, updates, text.max_tokens, text.width)
        tokens = sum(math.prod(grid) * count for grid, count in counts) / updates
        steps = max(1, round(fields.flop_budget / per_step))
        n_params = flops.non_embedding(_groups(fields.dit, channels, text.width))
        return Training(n_params, steps * tokens, steps * per_step, steps * per_step, steps)

    def _weights(self, dit: DiTSpec) -> int:
        return sum(_groups(dit, self.sweep.vae.latent_channels, self.sweep.text.width).values())

    def _sampling(self, dit: DiTSpec, evaluation: EvalSpec) -> float:
        """FLOPs to draw the latents of one clip, at most."""
        return flops.sampling_forwards(evaluation)[1] * self._forward(dit)

    def _forward(self, dit: DiTSpec) -> float:
        """FLOPs of one forward over one clip, in the mean of all sizes."""
        if dit not in self._forwards:
            text, channels = self.sweep.text, self.sweep.vae.latent_channels
            sizes = Counter(self.grids)
            total = sum(
                count * flops.dit_forward(dit, channels, [grid], text.max_tokens, text.width)
                for grid, count in sizes.items()
            )
            self._forwards[dit] = total / len(self.grids)
        return self._forwards[dit]


def _clip_sizes(sweep: SweepSpec, clip: ClipSize | None) -> list[ClipSize]:
    """Of clips that stand for all, each for as many as any other."""
    if clip is not None:
        return [clip]
    data = sweep.data
    if data.worlds is None:
        side = math.isqrt(data.pixels) // data.multiple * data.multiple
        return [(data.frames, side, side)]
    clips = world_clips(data.worlds, data)
    if not clips:
        raise UserError(f"{sweep.name}: no world has frames enough for a clip; raise data.worlds.frames or data.fps")
    return clips


@cache
def _clips_of_updates(grids: tuple[Grid, ...], batch_tokens: int, seed: int) -> tuple[Counts, int]:
    """How many clips of each size a number of updates take together, and that number. It is the same for all models."""
    batches = TokenBatches([math.prod(grid) for grid in grids], batch_tokens, seed)
    updates = SAMPLED_UPDATES if len(set(grids)) > 1 else 1
    counts = Counter(grids[clip] for step in range(updates) for clip in batches(step))
    return tuple(counts.items()), updates


@cache
def _update_flops(dit: DiTSpec, channels: int, counts: Counts, updates: int, text_tokens: int, text_dim: int) -> float:
    """FLOPs of one update, in the mean. Clips add up, but for their positions, which those of one size share."""
    if len(counts) == 1:
        (grid, count), *_ = counts
        return flops.dit_training(dit, channels, [grid] * count, text_tokens, text_dim) / updates
    each = (count * flops.dit_training(dit, channels, [grid], text_tokens, text_dim) for grid, count in counts)
    return sum(each) / updates


@cache
def _groups(dit: DiTSpec, channels: int, text_dim: int) -> dict[str, int]:
    return flops.dit_params(dit, channels, text_dim)


def _training_bytes(weights: int, averages: int, *, finished: bool) -> float:
    """Checkpoints of weights, averages and two moments, and the averages that a finished stage leaves."""
    return FLOAT * weights * (KEPT_CHECKPOINTS * (1 + averages + 2) + (1 if finished else 0))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
