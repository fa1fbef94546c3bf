"""Loads the text encoder of a `latents` stage, for the stage itself and to encode prompts for its models."""

from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.stage import Stage
from scaling.core.stage_fields import LatentsFields
from scaling.text.encoder import TextEncoder
from scaling.text.huggingface import HuggingFaceEncoder
from scaling.text.minilm import MiniLM
from scaling.text.source import download, encoder_manifest, wrong_width


def load_text_encoder(stage: Stage) -> TextEncoder:
    """The encoder of the captions of a `latents` stage, on the CPU.

    Raises UserError where it cannot be loaded, has changed since the plan, or does not fit the stage's text spec.
    """
    fields = stage.fields_as(LatentsFields)
    text, encoder = fields.text, _load(stage, fields)
    if encoder.width != text.width:
        raise wrong_width(stage.folder or text.encoder, text, encoder.width)
    if encoder.most_tokens < text.max_tokens:
        raise UserError(f"text.max_tokens is {text.max_tokens}, but the encoder reads at most {encoder.most_tokens}")
    return encoder


def _load(stage: Stage, fields: LatentsFields) -> TextEncoder:
    if fields.text.encoder == "minilm":
        return MiniLM()
    if fields.manifest is None:
        return HuggingFaceEncoder(download(fields.text.encoder))
    folder = Path(stage.folder)
    if encoder_manifest(folder, fields.text) != fields.manifest:
        raise UserError(f"{folder}: the text encoder has changed since the plan; run the command again")
    return HuggingFaceEncoder(folder)
