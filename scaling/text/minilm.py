"""The default text encoder, which needs no optional package: all-MiniLM-L6-v2, a BERT of 6 layers and width 384.

Wang et al., arXiv 2002.10957; fine-tuned by sentence-transformers. `scaling.pretrained.weights` fetches it.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from scaling.pretrained import weights
from scaling.text.encoder import TextEncoder

WIDTH = 384
LAYERS = 6
HEADS = 12
NORM_EPS = 1e-12


class MiniLM(TextEncoder):
    """MiniLM with its tokenizer."""

    def __init__(self, folder: Path | None = None) -> None:
        """Loads the folder of `scaling.pretrained.weights.minilm`, which is fetched if `folder` is None."""
        super().__init__()
        folder = folder or weights.minilm()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()  # the settings of the file would pad to 128
        tensors = load_file(folder / "model.safetensors")
        # every caption is of segment 0, so that segment's embedding belongs to every position
        positions = (
            tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self.width, self.most_tokens = WIDTH, len(positions)
        self.tokens = _embedding(tensors["embeddings.word_embeddings.weight"])
        self.positions = _embedding(positions)
        self.norm = nn.LayerNorm(WIDTH, eps=NORM_EPS)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", layer_norm_eps=NORM_EPS, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm.load_state_dict(_part(tensors, "embeddings.LayerNorm"))
        for index, block in enumerate(self.layers.layers):
            block.load_state_dict(_layer(tensors, f"encoder.layer.{index}"))
        self.requires_grad_(False).eval()

    def token_ids(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        """The token ids with the special tokens [CLS] and [SEP]."""
        self.tokenizer.enable_truncation(max_tokens)
        return [encoding.ids for encoding in self.tokenizer.encode_batch(captions)]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        states: Tensor = self.layers(self.norm(x), src_key_padding_mask=~mask)
        return states


def _embedding(weight: Tensor) -> nn.Embedding:
    """A table of vectors, one in each row of `weight`."""
    embedding = nn.Embedding(*weight.shape)
    embedding.weight = nn.Parameter(weight)
    return embedding


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensors[f"{prefix}.{name}"] for name in ("weight", "bias")}


def _layer(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights of one BERT layer as the state of an `nn.TransformerEncoderLayer`, which keeps query, key and value
    in one matrix."""
    qkv = [_part(tensors, f"{prefix}.attention.self.{name}") for name in ("query", "key", "value")]
    state = {f"self_attn.in_proj_{name}": torch.cat([part[name] for part in qkv]) for name in ("weight", "bias")}
    for torch_name, bert_name in {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }.items():
        state |= {f"{torch_name}.{name}": tensor for name, tensor in _part(tensors, f"{prefix}.{bert_name}").items()}
    return state
