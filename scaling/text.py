"""The frozen text encoder: captions in, token states and one pooled vector per caption out. Nothing here is trained.

all-MiniLM-L6-v2 (Wang et al., arXiv 2002.10957; fine-tuned by sentence-transformers): a BERT of 6 layers, width 384.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from scaling import weights
from scaling.caption import Caption
from scaling.geometry import TEXT_DIM

LAYERS = 6
HEADS = 12
NORM_EPS = 1e-12
BATCH_CAPTIONS = 64


class TextEncoder(nn.Module):
    """MiniLM with its tokenizer."""

    def __init__(self, folder: Path | None = None) -> None:
        """Loads the folder of `scaling.weights.minilm`, which is fetched if `folder` is None."""
        super().__init__()
        folder = folder or weights.minilm()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tensors = load_file(folder / "model.safetensors")
        # every caption is of segment 0, so that segment's embedding belongs to every position
        positions = (
            tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self.tokens = nn.Embedding.from_pretrained(tensors["embeddings.word_embeddings.weight"])
        self.positions = nn.Embedding.from_pretrained(positions)
        self.norm = nn.LayerNorm(TEXT_DIM, eps=NORM_EPS)
        layer = nn.TransformerEncoderLayer(
            TEXT_DIM, HEADS, 4 * TEXT_DIM, dropout=0.0, activation="gelu", layer_norm_eps=NORM_EPS, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm.load_state_dict(_part(tensors, "embeddings.LayerNorm"))
        for index, block in enumerate(self.layers.layers):
            block.load_state_dict(_layer(tensors, f"encoder.layer.{index}"))
        self.requires_grad_(False).eval()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (n, l) and which of them count (n, l) -> states (n, l, 384)."""
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        return self.layers(self.norm(x), src_key_padding_mask=~mask)

    @torch.no_grad()  # not inference_mode: a model is trained on these states, so autograd must accept them
    def encode(self, captions: list[str], max_tokens: int) -> Caption:
        """Encodes one or more captions, each different one once, on the encoder's device; the result is on the CPU.

        Captions are cut to `max_tokens`, of which the marks [CLS] and [SEP] are two.

        Every caption is padded to `max_tokens`, so its result does not depend on the others (to 1e-5).
        """
        assert 2 < max_tokens <= self.positions.num_embeddings, f"max_tokens is {max_tokens}"
        # the file's own settings pad to 128
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding(length=max_tokens)
        rows = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        encodings = self.tokenizer.encode_batch(list(rows))
        ids = torch.tensor([encoding.ids for encoding in encodings]).view(-1, max_tokens)
        mask = torch.tensor([encoding.attention_mask for encoding in encodings]).view(-1, max_tokens).bool()
        device = self.positions.weight.device
        batches = [
            self(part.to(device), kept.to(device)).float().cpu()
            for part, kept in zip(ids.split(BATCH_CAPTIONS), mask.split(BATCH_CAPTIONS), strict=True)
        ]
        states = torch.cat(batches) * mask[..., None]
        pooled = F.normalize(states.sum(dim=1) / mask.sum(dim=1, keepdim=True), dim=1)
        order = torch.tensor([rows[caption] for caption in captions], dtype=torch.long)
        return Caption(states[order], mask[order], pooled[order])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensors[f"{prefix}.{name}"] for name in ("weight", "bias")}


def _layer(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """One BERT layer as the state of `nn.TransformerEncoderLayer`, which keeps query, key and value in one matrix."""
    qkv = [_part(tensors, f"{prefix}.attention.self.{name}") for name in ("query", "key", "value")]
    state = {f"self_attn.in_proj_{name}": torch.cat([part[name] for part in qkv]) for name in ("weight", "bias")}
    for ours, theirs in {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }.items():
        state |= {f"{ours}.{name}": tensor for name, tensor in _part(tensors, f"{prefix}.{theirs}").items()}
    return state
