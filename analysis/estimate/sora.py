"""The arithmetic of "Under The Hood: How OpenAI's Sora Model Works" (Factorial Funds, 2024), "Compute Estimates".

Compute of Sora extrapolated from the diffusion transformer DiT-XL (arXiv 2212.09748). Each function is a part of that
section and is named as it is there; the assumptions are in presets/sora.yaml. Not here: the same from our own runs
(`analysis.estimate.from_runs`).
"""

from collections.abc import Mapping

from analysis.estimate.assumptions import Assumption
from analysis.estimate.worksheet import EstimateStep, Worksheet

OUTPUTS = {
    "DiT-XL": ("dit_flops_per_image", "a 512x512 image"),
    "Sora": ("inference_flops_per_video", "a video"),
    "Llama 2 70B": ("llama_flops_per_document", "a document"),
    "GPT-4": ("gpt4_flops_per_document", "a document"),
}
"""Model -> (the step that is its inference compute, the name of one output): models whose inference is compared."""


def estimate(assumptions: Mapping[str, Assumption]) -> dict[str, EstimateStep]:
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
    section = "training"
    frames = sheet.step(section, "frames", "frames", sheet["video_minutes"] * 60 * sheet["frames_per_second"])
    latent = sheet.step(section, "latent_frames", "latent frames", frames / sheet["temporal_compression"])
    clip = sheet.step(section, "clip_multiplier", "1", latent * sheet["video_share"])
    dit = sheet["dit_training_flops"]
    compute = dit * sheet["size_multiplier"] * sheet["dataset_multiplier"] * clip
    training = sheet.step(section, "training_flops", "FLOP", compute)
    rate = sheet.step(section, "h100_rate", "FLOP/s", sheet["h100_flops_per_second"] * sheet["hardware_utilization"])
    month = sheet.step(section, "h100_month", "FLOP", rate * sheet["days_per_month"] * 24 * 3600)
    sheet.step(section, "h100_months", "H100-months", training / month)
    dit_months = sheet.step(section, "dit_h100_months", "H100-months", dit / month)
    sheet.step(section, "dit_h100_days", "H100-days", dit_months * sheet["days_per_month"])


def _inference(sheet: Worksheet) -> None:
    """ "Inference vs. Training Compute": what one output costs."""
    section = "inference"
    dit_step = sheet["dit_flops_per_step"]
    sheet.step(section, "dit_flops_per_image", "FLOP", dit_step * sheet["dit_diffusion_steps"])
    step = sheet.step(
        section, "sora_flops_per_step", "FLOP", dit_step * sheet["size_multiplier"] * sheet["latent_frames"]
    )
    video = sheet.step(section, "inference_flops_per_video", "FLOP", step * sheet["diffusion_steps"])
    minutes_per_hour = sheet["h100_rate"] * 3600 * sheet["video_minutes"] / video
    sheet.step(section, "video_minutes_per_h100_hour", "minutes/H100-hour", minutes_per_hour)


def _break_even(sheet: Worksheet) -> None:
    """ "Inference vs. Training Compute": how much output costs as much as the training."""
    section = "break-even"
    images = sheet["dit_training_flops"] / sheet["dit_flops_per_image"]
    sheet.step(section, "dit_break_even_images", "images", images)
    minutes = sheet["training_flops"] * sheet["video_minutes"] / sheet["inference_flops_per_video"]
    sheet.step(section, "break_even_minutes", "minutes", minutes)


def _language_models(sheet: Worksheet) -> None:
    """ "Inference Compute Across Different Models": 2 FLOPs for each parameter that sees a token."""
    section = "language models"
    tokens = sheet["document_tokens"]
    sheet.step(section, "llama_flops_per_document", "FLOP", 2 * sheet["llama_params"] * tokens)
    active = sheet["gpt4_expert_params"] * sheet["gpt4_active_experts"]
    sheet.step(section, "gpt4_flops_per_document", "FLOP", 2 * active * tokens)


def _fleet(sheet: Worksheet) -> None:
    """ "Inference compute if Sora-like models achieve significant market share"."""
    section, unit = "fleet", "minutes/day"
    daily = sheet["video_minutes_per_h100_hour"] * 24
    per_day = sheet.step(section, "video_minutes_per_h100_day", "minutes/H100-day", daily)
    uploads = sheet["tiktok_videos_per_day"] * sheet["tiktok_video_seconds"] / 60
    tiktok = sheet.step(section, "tiktok_minutes_per_day", unit, uploads) * sheet["tiktok_ai_share"]
    tiktok = sheet.step(section, "tiktok_ai_minutes_per_day", unit, tiktok)
    youtube = sheet["youtube_minutes_per_day"] * sheet["youtube_ai_share"]
    youtube = sheet.step(section, "youtube_ai_minutes_per_day", unit, youtube)
    total = sheet.step(section, "ai_minutes_per_day", unit, tiktok + youtube)
    fleet = sheet.step(section, "fleet_h100", "H100s", total / per_day)
    # Not a factor of its own: a fleet at 50 % needs no more devices because training ran at 40 %.
    slower = sheet["hardware_utilization"] / sheet["fleet_utilization"]
    slower = sheet.step(section, "utilization_factor", "1", slower)
    sheet.step(section, "peak_h100", "H100s", fleet * slower * sheet["peak_factor"] * sheet["candidates_per_upload"])
