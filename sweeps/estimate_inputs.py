"""What an estimate takes from a folder of runs in place of assumptions: a target by the forecast, FLOPs of one video in
closed form, and measured speed. Imports no torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from analysis.estimate.assumptions import Assumption
from analysis.estimate.target import Target, target_of_compute, target_of_loss
from analysis.laws.power import fit_power
from analysis.tables.read import read_runs
from scaling.accounting import flops
from scaling.accounting.geometry import latent_size, token_grid
from scaling.accounting.video_size import require_frames, require_side
from scaling.core.errors import UserError
from scaling.core.records import RunRecord, read_records
from scaling.core.stage_fields import DataFields, DiTFields, LatentsFields, VAEFields
from scaling.core.stage_folder import StageFolder


@dataclass(frozen=True)
class Video:
    """Size of the video to draw, in frames and pixels; None is the largest clip that the runs were trained on."""

    frames: int | None
    height: int | None
    width: int | None


def assume(path: Path, compute: float | None, loss: float | None, video: Video) -> tuple[dict[str, Assumption], Target]:
    """The assumptions of `analysis.estimate.from_runs`, and the target that they are of: of a compute or of a loss, one
    of the two.

    path: a folder of runs, or the output folder around it. Raises UserError where its runs carry no forecast, or have
    no measured speed, or cannot draw such a video.
    """
    table = read_runs(path)
    runs = path / "runs" if (path / "runs").is_dir() else path
    folders = [StageFolder(runs / run_id) for run_id in table["run_id"]]
    drawing, forwards = _drawing(folders, video)
    speed = _speed(read_records(path))
    if compute is not None:
        target = target_of_compute(table, compute)
    else:
        assert loss is not None
        target = target_of_loss(table, loss)
    # Between and beyond the sizes that were run, as `analysis.laws.isoflop` finds the training FLOPs per token.
    per_size = fit_power(table["n_params"], forwards)
    return {
        "training_flops": _range(
            target.flops,
            target.flops_low,
            target.flops_high,
            unit="FLOP",
            meaning=f"training of the target, the DiT alone; its best size is N = {target.n_params:.3g}",
            source="asked for" if loss is None else f"forecast for a validation loss of {loss:g}",
        ),
        "flops_per_forward": _range(
            *(float(per_size(N)) for N in (target.n_params, target.n_params_low, target.n_params_high)),
            unit="FLOP",
            meaning="one forward of the target on one clip",
            source=f"closed forms of {len(forwards)} runs, as a power of N, at N in "
            f"{target.n_params_low:.3g}..{target.n_params_high:.3g}",
        ),
        **drawing,
        "device_flops_per_second": speed,
    }, target


def _drawing(folders: list[StageFolder], video: Video) -> tuple[dict[str, Assumption], list[float]]:
    """What drawing one video takes with the settings that drew the runs' samples; and the FLOPs of one forward of each
    run's model on it."""
    largest = folders[-1]  # the table ends with the largest budget
    fields, latents = largest.stage().fields_as(DiTFields), largest.parent("latents")
    vae, text = largest.parent("vae").stage().fields_as(VAEFields).vae, latents.stage().fields_as(LatentsFields).text
    data = latents.parent("data").stage().fields_as(DataFields).data
    side = math.isqrt(data.pixels) // data.multiple * data.multiple
    frames, height, width = video.frames or data.frames, video.height or side, video.width or side
    require_frames("frames", frames, vae.temporal_stride)
    for option, pixels in (("height", height), ("width", width)):
        require_side(option, pixels, vae.spatial_stride * fields.dit.patch)
    latent = latent_size(frames, height, width, vae)
    forwards = [
        flops.dit_forward(dit, vae.latent_channels, [token_grid(latent, dit.patch)], text.max_tokens, text.width)
        for dit in (folder.stage().fields_as(DiTFields).dit for folder in folders)
    ]
    evaluation = fields.evaluation
    least, most = flops.sampling_forwards(evaluation)
    size = f"{frames} frames of {width}x{height}"
    return {
        "forwards_per_video": _range(
            most,
            least,
            most,
            unit="forwards",
            meaning=f"{evaluation.sample_steps} steps of {evaluation.solver}, guidance {evaluation.guidance:g}",
            source=f"how {largest.path.name} was sampled",
        ),
        "decode_flops_per_video": _range(
            flops.vae_decode(vae, frames, height, width),
            unit="FLOP",
            meaning=f"decoding {size}",
            source="closed form of the VAE",
        ),
        "frames": _range(frames, unit="frames", meaning=f"one video, {size}", source="asked for, or of the data"),
        "frames_per_second": _range(data.fps, unit="frames/s", meaning="frame rate", source="of the data"),
    }, forwards


def _speed(records: Iterable[RunRecord]) -> Assumption:
    """Measured training FLOP/s of one device, over all training runs but tuning's; on a CPU a core is the device."""
    measured: dict[str, list[float]] = {}
    for record in records:
        if record.stage != "dit" or record.phase == "tuning":
            continue
        if record.flops_per_second is not None and record.engine is not None:
            devices = record.engine.cores if record.device == "cpu" else record.engine.processes
            measured.setdefault(str(record.device), []).append(record.flops_per_second / devices)
    if not measured:
        raise UserError("no run has a measured speed (flops_per_second); let one finish in one go")
    if len(measured) > 1:
        raise UserError(f"speeds were measured on {' and '.join(measured)}, which do not mix; give runs of one device")
    ((device, speeds),) = measured.items()
    return _range(
        median(speeds),
        min(speeds),
        max(speeds),
        unit="FLOP/s",
        meaning="training and drawing on one " + ("CPU core" if device == "cpu" else f"{device} device"),
        source=f"measured in training, {len(speeds)} runs: median, slowest, fastest",
    )


def _range(value: float, low: float | None = None, high: float | None = None, **fields: str) -> Assumption:
    if low is None or high is None or low == high:
        return Assumption(value=value, **fields)
    return Assumption(value=(low, high), middle=value, **fields)
