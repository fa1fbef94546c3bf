"""Writes the reviewers' page: one index.html that contains all it shows, opens from a disk and needs no network.

What the page shows is `ReportData`; how it looks and plays is in assets/. Nothing is computed here but names and bytes.
"""

import base64
import hashlib
import html
import json
import string
from importlib.resources import files
from pathlib import Path
from typing import Any

import av

from analysis.report.data import PageFigure, ReportData
from scaling.core.errors import UserError
from scaling.core.store import write_bytes

SCRIPTS = ("text.js", "player.js", "app.js")
"""Classic scripts in the order in which they need each other; modules do not load from a disk."""
PLAYABLE_CODECS = ("h264", "vp9", "av1")
"""Codecs that browsers play without a plug-in."""
PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
EMPTY_SECTIONS = {
    "comparison": "No samples were given.",
    "prediction": "No forecast was made.",
    "figures": "No figures were drawn.",
    "runs": "No run has finished.",
    "vae": "The VAE was not measured.",
    "recipe": "Not recorded.",
}
"""What an empty section says where no other reason is given."""


def build_report(folder: Path, data: ReportData) -> Path:
    """Writes `folder`/index.html and returns its path.

    Raises UserError for a clip that cannot be read or that browsers do not play, and for a figure that is neither PNG
    nor SVG.
    """
    assets = files("analysis.report") / "assets"
    style, scripts = (
        (assets / "style.css").read_text(encoding="utf-8"),
        [(assets / name).read_text(encoding="utf-8") for name in SCRIPTS],
    )
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash_source, scripts))}; "
        f"style-src {_hash_source(style)}; media-src blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )
    text = string.Template((assets / "index.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(data.title),
        policy=policy,
        style=style,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        data=script_json(page_document(data)),
    )
    index = folder / "index.html"
    write_bytes(index, text.encode())
    return index


def page_document(data: ReportData) -> dict[str, Any]:
    """The JSON that app.js reads: `data`, with each path replaced by the name of its content in `media`.

    A clip becomes {media, frames, fps, width, height}; equal files are stored once.
    """
    media: dict[str, str] = {}
    document = data.model_dump(mode="json")
    for clip, shown in zip(data.clips, document["clips"], strict=True):
        shown["path"] = _clip(clip.path, media) if clip.path else None
    for figure, shown in zip(data.figures, document["figures"], strict=True):
        shown["path"] = _picture(figure)
    if data.tuning:
        document["tuning"]["path"] = _picture(data.tuning)
    if data.vae:
        document["vae"]["pairs"] = [
            {"original": _clip(pair.original, media), "decoded": _clip(pair.decoded, media)} for pair in data.vae.pairs
        ]
    for run, shown in zip(data.runs, document["runs"], strict=True):
        shown["compute"] = run.compute
    document["missing"] = {**EMPTY_SECTIONS, **data.missing}
    document["media"] = media
    return document


def script_json(document: Any) -> str:
    """JSON that is safe between script tags: captions are untrusted, and none can end the tag or open another.

    U+2028 and U+2029 end a line in older scripts, so they are escaped as well.
    """
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.translate({ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def _clip(path: Path, media: dict[str, str]) -> dict[str, Any]:
    """Stores a video in `media` under the hash of its bytes, and gives what the player needs to know of it."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = sum(1 for _ in container.decode(stream))
            if stream.codec_context.name not in PLAYABLE_CODECS:
                raise UserError(f"{path}: codec {stream.codec_context.name} plays in no browser; write H.264")
            shape = {"width": stream.width, "height": stream.height, "fps": float(stream.average_rate or 1)}
    except (OSError, IndexError, av.error.InvalidDataError) as error:
        raise UserError(f"{path}: cannot be read as a video ({error}); sample it again") from None
    content = path.read_bytes()
    name = hashlib.sha256(content).hexdigest()[:16]
    media[name] = base64.b64encode(content).decode()
    return {"media": name, "frames": frames, **shape}


def _picture(figure: PageFigure) -> str:
    """A picture as a data: address, which an img element shows without running what an SVG may contain."""
    kind = PICTURES.get(figure.path.suffix.lower())
    if kind is None:
        raise UserError(f"{figure.path}: a figure must be PNG or SVG")
    if not figure.path.is_file():
        raise UserError(f"{figure.path}: no such figure")
    return f"data:{kind};base64,{base64.b64encode(figure.path.read_bytes()).decode()}"


def _hash_source(text: str) -> str:
    """The Content-Security-Policy source that allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
