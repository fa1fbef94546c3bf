"""The default text encoder is all-MiniLM-L6-v2, and the result for a caption does not depend on other captions."""

import pytest
import torch

from scaling.core.errors import UserError
from scaling.text.minilm import MiniLM

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]


@pytest.fixture(scope="module")
def encoder():
    try:
        return MiniLM()
    except UserError as error:
        pytest.skip(str(error))


def test_published_similarities(encoder):
    """The example in sentence-transformers' documentation of all-MiniLM-L6-v2."""
    pooled = encoder.encode(SENTENCES, 32).pooled
    published = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    torch.testing.assert_close(pooled @ pooled.T, published, atol=1e-4, rtol=0)


def test_captions_with_the_same_meaning_are_close(encoder):
    pooled = encoder.encode(["a red ball falls", "a crimson ball is dropping", "two blue boxes collide"], 32).pooled
    assert pooled[0] @ pooled[1] > pooled[0] @ pooled[2] + 0.2


def test_a_caption_does_not_depend_on_its_batch_or_its_padding(encoder):
    others = [f"{'very ' * (i % 20)}large ball number {i}" for i in range(70)]
    alone = encoder.encode(SENTENCES[:1], 32)
    among = encoder.encode([*others, SENTENCES[0]], 32)
    padded = encoder.encode(SENTENCES[:1], 64)
    torch.testing.assert_close(among.states[-1], alone.states[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(padded.states[0, :32], alone.states[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(among.pooled[-1], alone.pooled[0], atol=1e-5, rtol=0)


def test_repeated_captions_are_encoded_once(encoder, monkeypatch):
    batch_sizes = []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda ids, mask: batch_sizes.append(len(ids)) or forward(ids, mask))
    result = encoder.encode(["a", "b", "a", "a"], 8)
    assert batch_sizes == [2]
    assert torch.equal(result.states[0], result.states[3])
    assert not torch.equal(result.states[0], result.states[1])


def test_empty_and_long_captions(encoder):
    result = encoder.encode(["", "word " * 50], 8)
    assert result.states.shape == (2, 8, 384)
    assert result.mask.sum(dim=1).tolist() == [2, 8]  # the special tokens alone; a cut caption
    assert result.states[0, 2:].abs().max() == 0
    torch.testing.assert_close(result.pooled.norm(dim=1), torch.ones(2))


def test_a_model_can_be_trained_on_the_states(encoder):
    weight = torch.ones(384, requires_grad=True)
    (encoder.encode(["a ball"], 8).states @ weight).sum().backward()
    assert weight.grad is not None
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
