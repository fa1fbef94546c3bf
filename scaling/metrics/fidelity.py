"""How similar decoded clips are to their originals, frame by frame: PSNR, SSIM and LPIPS.

The distance between two sets of videos is in `scaling.metrics.fvd`.
"""

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from scaling.core.records import Metric, Setting
from scaling.metrics.lpips import LPIPS, SMALLEST, Backbone
from scaling.metrics.precision import full_precision
from scaling.models.vae import to_float

FRAMES = 8
"""Number of frames of a clip on which SSIM and LPIPS are measured: at even distances, the first and the last included;
all frames if there are fewer. On one core of an AMD EPYC they take 0.04 s for a clip of 64x64."""
WINDOW = 11
"""Side of the window of SSIM, in pixels."""
BACKBONE: Backbone = "alex"
"""Network of LPIPS."""


class Fidelity:
    """Measures clips one after another with `add`. `metrics` gives the means, with standard errors over clips."""

    def __init__(self, device: torch.device) -> None:
        """Fetches the weights of LPIPS if they are not in the cache. Raises UserError where they cannot be had."""
        self.device = device
        self.lpips = LPIPS(BACKBONE).to(device)
        self.values: dict[str, list[float]] = {"psnr": [], "ssim": [], "lpips": []}

    def add(self, decoded: np.ndarray, original: np.ndarray) -> None:
        """Measures one clip, given as uint8 (t, h, w, 3) twice. SSIM and LPIPS skip a clip that is too small for
        them."""
        assert decoded.shape == original.shape, (
            f"clips of shapes {decoded.shape} and {original.shape} cannot be compared"
        )
        error = np.square(decoded.astype(np.float64) - original).mean()
        self.values["psnr"].append(10 * np.log10(255**2 / max(error, 1e-10)))
        frames, side = len(original), min(original.shape[1:3])
        chosen = np.unique(np.linspace(0, frames - 1, min(FRAMES, frames)).round().astype(int))
        pair = [to_float(torch.from_numpy(clip[chosen]).to(self.device)) for clip in (decoded, original)]
        with torch.no_grad(), full_precision(self.device):
            if side >= WINDOW:
                self.values["ssim"].append(_ssim(*pair).mean().item())
            if side >= SMALLEST[BACKBONE]:
                self.values["lpips"].append(self.lpips(*pair).mean().item())

    def metrics(self) -> tuple[Metric, ...]:
        """`psnr` in dB, `ssim` and `lpips`. A metric that every clip was too small for is missing."""
        settings: dict[str, dict[str, Setting]] = {
            "psnr": {"frames": "all"},
            "ssim": {"frames": FRAMES, "window": WINDOW, "color": "RGB"},
            "lpips": {"frames": FRAMES},
        }
        return tuple(
            Metric(
                name=name,
                value=float(np.mean(values)),
                standard_error=float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None,
                n=len(values),
                extractor=f"lpips_{BACKBONE}" if name == "lpips" else None,
                settings=settings[name],
            )
            for name, values in self.values.items()
            if values
        )


def _ssim(images: Tensor, references: Tensor) -> Tensor:
    """Wang et al. 2004 with a Gaussian window of 11x11 and standard deviation 1.5. Both arguments are (n, h, w, 3) in
    [-1, 1]; the result is (n,)."""
    unit_images, unit_references = ((batch.movedim(-1, 1) + 1) / 2 for batch in (images, references))  # in [0, 1]
    similarity = structural_similarity_index_measure(
        unit_images, unit_references, sigma=1.5, kernel_size=WINDOW, reduction="none", data_range=1.0
    )
    assert isinstance(similarity, Tensor)
    return similarity
