"""The estimate of `analysis.estimate.sora` for a model of ours: from a forecast and measured speed in place of
assumptions.

Not here: where the numbers come from (`analysis.forecast.target` and the command line).
"""

from collections.abc import Mapping

from analysis.estimate.assumptions import Assumption
from analysis.estimate.worksheet import Result, Worksheet


def estimate_own(assumptions: Mapping[str, Assumption]) -> dict[str, Result]:
    """Every step, from training_flops, flops_per_forward, forwards_per_video, decode_flops_per_video (FLOP), frames,
    frames_per_second and device_flops_per_second. Raises UserError for too many ranges."""
    sheet = Worksheet(assumptions)
    of = sheet.__getitem__
    hour = sheet.step("training", "device_hour", "FLOP", of("device_flops_per_second") * 3600)
    sheet.step("training", "training_device_hours", "device-hours", of("training_flops") / hour)
    minutes = sheet.step("inference", "video_minutes", "minutes", of("frames") / of("frames_per_second") / 60)
    compute = of("flops_per_forward") * of("forwards_per_video") + of("decode_flops_per_video")
    video = sheet.step("inference", "inference_flops_per_video", "FLOP", compute)
    sheet.step("inference", "video_minutes_per_device_hour", "minutes/device-hour", hour * minutes / video)
    videos = sheet.step("break-even", "break_even_videos", "videos", of("training_flops") / video)
    sheet.step("break-even", "break_even_minutes", "minutes", videos * minutes)
    return sheet.results
