"""Spec of the text encoder."""

from typing import Self

from pydantic import Field, model_validator

from scaling.core.specs.base import Spec


class TextSpec(Spec):
    """The frozen text encoder."""

    encoder: str = Field("minilm", min_length=1)
    """Which encoder: `minilm`; or, with the extra `hf`, the folder of a Hugging Face text encoder (a path that begins
    with "/" or "."), or `name` or `name@revision` of one on the hub."""
    width: int = Field(384, ge=1)
    """Width of the encoder's token states."""
    max_tokens: int = Field(32, ge=4, le=256)
    """Most tokens of a caption; longer captions are cut."""

    @model_validator(mode="after")
    def _minilm(self) -> Self:
        if self.encoder == "minilm" and self.width != 384:
            raise ValueError(f"width is {self.width}, but the states of minilm have 384")
        return self
