"""Text encoders of Hugging Face's `transformers`, an optional dependency: T5's encoder, CLIP's text model, BERT's kin.

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from scaling.core.errors import UserError
from scaling.text.encoder import TextEncoder

OUR_OWN = {"trust_remote_code": False, "local_files_only": True}
"""For every loader of the package: what is not in the folder is not looked for elsewhere."""


class HuggingFaceEncoder(TextEncoder):
    """The last hidden states of a pretrained network, in float32, with its own tokenizer."""

    def __init__(self, folder: Path) -> None:
        """Loads config.json, safetensors and the tokenizer's files from a folder, as `save_pretrained` writes them.

        Raises UserError where the folder holds no such model, one that is no text encoder, or only part of its weights.
        """
        super().__init__()
        try:
            config, self.network, report = _load_network(folder)
            self.tokenizer = _load_tokenizer(folder)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise UserError(f"{folder}: cannot be loaded as a text encoder: {first_line}") from None
        # a pooler makes a sentence vector, which is not used
        missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
        if missing:
            raise UserError(f"{folder}: its safetensors lack {len(missing)} tensors of the model, such as {missing[0]}")
        self.width = config.hidden_size
        self.most_tokens = min(self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", 10**6))
        self.requires_grad_(False).eval()

    def token_ids(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        return self.tokenizer(captions, truncation=True, max_length=max_tokens)["input_ids"]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state


def _load_network(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Config, network, and the report of which tensors were found."""
    from transformers import AutoConfig, AutoModelForTextEncoding, logging

    # its bars and its table of tensors that are not used would stand between the lines of a command
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    config = AutoConfig.from_pretrained(folder, **OUR_OWN)
    config = getattr(config, "text_config", None) or config  # a whole CLIP holds a text model
    network, report = AutoModelForTextEncoding.from_pretrained(
        folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **OUR_OWN
    )
    return config, network, report


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **OUR_OWN)
