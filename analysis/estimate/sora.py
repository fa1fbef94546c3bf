"""The arithmetic of "Under The Hood: How OpenAI's Sora Model Works" (Factorial Funds, 2024), "Compute Estimates".

Compute of Sora extrapolated from the diffusion transformer DiT-XL (arXiv 2212.09748). Each function is a part of that
section and is named as it is there; the assumptions are in presets/sora.yaml. Not here: the same from runs of ours
(`analysis.estimate.from_runs`).
"""

from collections.abc import Mapping

from analysis.estimate.assumptions import Assumption
from analysis.estimate.worksheet import Result, Worksheet

OUTPUTS = {
    "DiT-XL": ("dit_flops_per_image", "a 512x512 image"),
    "Sora": ("inference_flops_per_video", "a video"),
    "Llama 2 70B": ("llama_flops_per_document", "a document"),
    "GPT-4": ("gpt4_flops_per_document", "a document"),
}
"""Models whose inference is compared, and what one output of each is."""


def estimate(assumptions: Mapping[str, Assumption]) -> dict[str, Result]:
    """Every step, from the assumptions of the preset `sora`. Raises UserError for too many ranges."""
    sheet = Worksheet(assumptions)
    _training(sheet)
    _inference(sheet)
    _break_even(sheet)
    _language_models(sheet)
    _fleet(sheet)
    return sheet.results


def _training(sheet: Worksheet) -> None:
    """ "Extrapolating training compute from DiT to Sora" and footnote 4."""
    section, of = "training", sheet.__getitem__
    frames = sheet.step(section, "frames", "frames", of("video_minutes") * 60 * of("frames_per_second"))
    latent = sheet.step(section, "latent_frames", "latent frames", frames / of("temporal_compression"))
    clip = sheet.step(section, "clip_multiplier", "1", latent * of("video_share"))
    dit = of("dit_training_flops")
    compute = dit * of("size_multiplier") * of("dataset_multiplier") * clip
    training = sheet.step(section, "training_flops", "FLOP", compute)
    rate = sheet.step(section, "h100_rate", "FLOP/s", of("h100_flops_per_second") * of("hardware_utilization"))
    month = sheet.step(section, "h100_month", "FLOP", rate * of("days_per_month") * 24 * 3600)
    sheet.step(section, "h100_months", "H100-months", training / month)
    dit_months = sheet.step(section, "dit_h100_months", "H100-months", dit / month)
    sheet.step(section, "dit_h100_days", "H100-days", dit_months * of("days_per_month"))


def _inference(sheet: Worksheet) -> None:
    """ "Inference vs. Training Compute": what one output costs."""
    section, of = "inference", sheet.__getitem__
    dit_step = of("dit_flops_per_step")
    sheet.step(section, "dit_flops_per_image", "FLOP", dit_step * of("dit_diffusion_steps"))
    step = sheet.step(section, "sora_flops_per_step", "FLOP", dit_step * of("size_multiplier") * of("latent_frames"))
    video = sheet.step(section, "inference_flops_per_video", "FLOP", step * of("diffusion_steps"))
    made = of("h100_rate") * 3600 * of("video_minutes") / video
    sheet.step(section, "video_minutes_per_h100_hour", "minutes/H100-hour", made)


def _break_even(sheet: Worksheet) -> None:
    """ "Inference vs. Training Compute": how much output costs as much as the training."""
    section, of = "break-even", sheet.__getitem__
    images = of("dit_training_flops") / of("dit_flops_per_image")
    sheet.step(section, "dit_break_even_images", "images", images)
    minutes = of("training_flops") * of("video_minutes") / of("inference_flops_per_video")
    sheet.step(section, "break_even_minutes", "minutes", minutes)


def _language_models(sheet: Worksheet) -> None:
    """ "Inference Compute Across Different Models": 2 FLOPs for each parameter that sees a token."""
    section, of = "language models", sheet.__getitem__
    tokens = of("document_tokens")
    sheet.step(section, "llama_flops_per_document", "FLOP", 2 * of("llama_params") * tokens)
    active = of("gpt4_expert_params") * of("gpt4_active_experts")
    sheet.step(section, "gpt4_flops_per_document", "FLOP", 2 * active * tokens)


def _fleet(sheet: Worksheet) -> None:
    """ "Inference compute if Sora-like models achieve significant market share"."""
    section, of, a_day = "fleet", sheet.__getitem__, "minutes/day"
    daily = of("video_minutes_per_h100_hour") * 24
    per_day = sheet.step(section, "video_minutes_per_h100_day", "minutes/H100-day", daily)
    uploads = of("tiktok_videos_per_day") * of("tiktok_video_seconds") / 60
    tiktok = sheet.step(section, "tiktok_minutes_per_day", a_day, uploads) * of("tiktok_ai_share")
    tiktok = sheet.step(section, "tiktok_ai_minutes_per_day", a_day, tiktok)
    youtube = of("youtube_minutes_per_day") * of("youtube_ai_share")
    youtube = sheet.step(section, "youtube_ai_minutes_per_day", a_day, youtube)
    total = sheet.step(section, "ai_minutes_per_day", a_day, tiktok + youtube)
    fleet = sheet.step(section, "fleet_h100", "H100s", total / per_day)
    # Not a factor of its own: a fleet at 50 % needs no more devices because training ran at 40 %.
    slower = of("hardware_utilization") / of("fleet_utilization")
    slower = sheet.step(section, "utilization_factor", "1", slower)
    sheet.step(section, "peak_h100", "H100s", fleet * slower * of("peak_factor") * of("candidates_per_upload"))
