"""A page's values for tests: clips whose frames show their numbers, made-up runs and a forecast."""

import shutil
from pathlib import Path

import av
import numpy as np

from analysis.report.data import ComparisonColumn, LossPrediction, PageClip, PageFigure, Prompt, ReportData
from scaling.core.records import Metric, RunRecord

CHROMIUM = shutil.which("chromium")
COMPUTE = ("base", "4x", "32x")
FRACTIONS = (0.1, 0.3, 1.0)
FRAMES = 17
TRIALS = ((0.01, 0.8), (0.02, 0.7), (0.2, None))
ATTACK = "</script><img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>\u2028<b>bold</b> & 'quotes'"


def write_clip(path: Path, frames: int = FRAMES, codec: str = "libx264", offset: int = 0) -> Path:
    """A 64 x 64 clip at 8 fps whose frame `i` shows the number (i + offset) % 32 as five black or white bars."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            bits = [255 * ((i + offset) >> bit & 1) for bit in range(5)]
            image = np.repeat(np.array([*bits, 128, 128, 128], np.uint8), 8)[None, :, None]
            frame = av.VideoFrame.from_ndarray(np.broadcast_to(image, (64, 64, 3)).copy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_picture(path: Path) -> Path:
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><circle cx="10" cy="10" r="5"/></svg>')
    return path


def full_data(folder: Path) -> ReportData:
    """Three columns, three moments, two prompts; clip (column, moment) starts its count at an offset of its own moment,
    the last cell is missing, the 32x run has no FVD."""
    clips = []
    for compute in COMPUTE:
        for moment, fraction in enumerate(FRACTIONS):
            path = write_clip(folder / f"{compute}-{moment}.mp4", offset=moment)
            clips += [PageClip(compute=compute, fraction=fraction, prompt=0, path=path)]
            if compute == "32x":
                clips += [PageClip(compute=compute, fraction=fraction, prompt=1, reason="node n3 died")]
            else:
                clips += [PageClip(compute=compute, fraction=fraction, prompt=1, path=path)]
    runs = tuple(
        RunRecord(
            run_id=f"dit-{compute}",
            stage="dit",
            multiple=n,
            n_params=n,
            num_tokens=10 * n,
            flop_budget=1e12 * n,
            train_flops=1e12 * n,
            vae_id="vae-1",
            metrics=(
                Metric(name="val_loss", value=0.7 - 0.001 * n, standard_error=0.002, n=256),
                *((Metric(name="fvd", value=900.0 - n, n=48, extractor="i3d_k400"),) if n < 32 else ()),
            ),
        )
        for compute, n in zip(COMPUTE, (1, 4, 32), strict=True)
    )
    return ReportData(
        title="A sweep",
        sweep="demo",
        columns=tuple(ComparisonColumn(compute=compute, run_id=f"dit-{compute}") for compute in COMPUTE),
        fractions=FRACTIONS,
        prompts=(Prompt(text="a ball falls", seed=3), Prompt(text=ATTACK, seed=4)),
        clips=tuple(clips),
        prediction=LossPrediction(
            target_flops=3.2e13,
            n_params=32,
            num_tokens=320,
            val_loss=0.67,
            low=0.66,
            high=0.68,
            level=0.95,
            measured=0.668,
            relative_error=0.67 / 0.668 - 1,
            inside=True,
        ),
        figures=(PageFigure(title="Loss", caption="against compute", path=write_picture(folder / "loss.svg")),),
        runs=runs,
    )
