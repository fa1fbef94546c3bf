"""The estimate of `analysis.estimate.sora` for a model trained here: a forecast and measured speed take the place of
assumptions.

Not here: where the numbers come from (`analysis.estimate.target`, and the sweep's runs).
"""

from collections.abc import Mapping

from analysis.estimate.assumptions import Assumption
from analysis.estimate.worksheet import EstimateStep, Worksheet


def estimate_from_runs(assumptions: Mapping[str, Assumption]) -> dict[str, EstimateStep]:
    """Every step, from training_flops, flops_per_forward, forwards_per_video, decode_flops_per_video (FLOP), frames,
    frames_per_second and device_flops_per_second. Raises UserError for too many ranges."""
    sheet = Worksheet(assumptions)
    hour = sheet.step("training", "device_hour", "FLOP", sheet["device_flops_per_second"] * 3600)
    sheet.step("training", "training_device_hours", "device-hours", sheet["training_flops"] / hour)
    duration = sheet["frames"] / sheet["frames_per_second"] / 60
    minutes = sheet.step("inference", "video_minutes", "minutes", duration)
    compute = sheet["flops_per_forward"] * sheet["forwards_per_video"] + sheet["decode_flops_per_video"]
    video = sheet.step("inference", "inference_flops_per_video", "FLOP", compute)
    sheet.step("inference", "video_minutes_per_device_hour", "minutes/device-hour", hour * minutes / video)
    videos = sheet.step("break-even", "break_even_videos", "videos", sheet["training_flops"] / video)
    sheet.step("break-even", "break_even_minutes", "minutes", videos * minutes)
    return sheet.results
