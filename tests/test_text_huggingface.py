"""Text encoders of Hugging Face: their states, errors for what does not fit, and identity by content."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from scaling.core.errors import UserError
from scaling.core.specs import TextSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import LatentsFields
from scaling.text.load import load_text_encoder
from sweeps.load import load_sweep
from sweeps.planning.plan import plan
from tests.sweep_stages import shared_stages

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

CAPTIONS = ["a red ball bounces", "a blue box", "a red box and a blue ball drift"]
WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "ball", "box", "and", "bounces", "drift"]
WIDTH, TOKENS = 32, 12


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words, which ends a caption with </s>."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=20
    )
    fast.save_pretrained(folder)


def t5():
    sizes = {"d_model": WIDTH, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}
    return transformers.T5EncoderModel(transformers.T5Config(vocab_size=len(WORDS), **sizes))


def whole_t5():
    sizes = {"d_model": WIDTH, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=len(WORDS), **sizes))


def text_sizes():
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {"vocab_size": len(WORDS), "max_position_embeddings": 20, "eos_token_id": 1, "pad_token_id": 0, **sizes}


def clip():
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**text_sizes()))


def whole_clip():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"image_size": 16, "patch_size": 8, **sizes}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text_sizes(), vision_config=vision))


def bert():
    return transformers.BertForMaskedLM(transformers.BertConfig(**text_sizes()))


@dataclass(frozen=True)
class Family:
    make: object
    text_part: object
    """Gives the part of the model whose states are used."""


FAMILIES = {
    "t5": Family(t5, lambda model: model),
    "whole_t5": Family(whole_t5, lambda model: model.encoder),
    "clip": Family(clip, lambda model: model),
    "whole_clip": Family(whole_clip, lambda model: model.text_model),
    "bert": Family(bert, lambda model: model.bert),
}


def saved(folder: Path, name: str):
    """Saves a small random model with its tokenizer."""
    torch.manual_seed(0)
    model = FAMILIES[name].make().eval()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return model


def stage_of(folder: Path, **text) -> Stage:
    """The `latents` stage that a plan makes of this encoder."""
    spec = TextSpec(encoder=str(folder), **{"width": WIDTH, "max_tokens": TOKENS, **text})
    return shared_stages(load_sweep("demo").replace(text=spec)).latents


@pytest.mark.parametrize("name", FAMILIES)
def test_the_states_are_those_of_transformers(tmp_path, name):
    model = FAMILIES[name].text_part(saved(tmp_path, name))
    encoded = load_text_encoder(stage_of(tmp_path)).encode(CAPTIONS, TOKENS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for row, caption in enumerate(CAPTIONS):
        ids = tokenizer(caption, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0]
        words = len(expected)
        assert encoded.mask[row].tolist() == [place < words for place in range(TOKENS)]
        torch.testing.assert_close(encoded.states[row, :words], expected, atol=1e-5, rtol=0)
        assert encoded.states[row, words:].abs().max() == 0
        pooled = torch.nn.functional.normalize(expected.mean(0), dim=0)
        torch.testing.assert_close(encoded.pooled[row], pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["t5", "clip", "bert"])
def test_a_caption_does_not_depend_on_padding_or_other_captions(tmp_path, name):
    saved(tmp_path, name)
    encoder = load_text_encoder(stage_of(tmp_path))
    alone, padded = encoder.encode(CAPTIONS[1:2], TOKENS), encoder.encode(CAPTIONS, 20)
    torch.testing.assert_close(padded.states[1, :TOKENS], alone.states[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(padded.pooled[1], alone.pooled[0], atol=1e-5, rtol=0)
    again = load_text_encoder(stage_of(tmp_path)).encode(CAPTIONS, 20)
    assert torch.equal(again.states, padded.states)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_long_and_empty_captions(tmp_path):
    saved(tmp_path, "t5")
    encoded = load_text_encoder(stage_of(tmp_path)).encode(["", "red " * 50], TOKENS)
    assert encoded.mask.sum(dim=1).tolist() == [1, TOKENS]
    assert encoded.states.isfinite().all()


def test_weights_in_half_precision_are_read_as_float32(tmp_path):
    saved(tmp_path, "t5").bfloat16().save_pretrained(tmp_path)
    assert next(load_text_encoder(stage_of(tmp_path)).parameters()).dtype == torch.float32


def test_a_wrong_width_is_refused_with_the_right_one(tmp_path):
    for name in ("t5", "whole_clip", "bert"):
        saved(tmp_path / name, name)
        with pytest.raises(UserError, match=r"have width 32, but text.width is 48: give 32"):
            stage_of(tmp_path / name, width=48)
    with pytest.raises(ValueError, match="width is 512, but the states of minilm have 384"):
        TextSpec(width=512)


def test_more_tokens_than_the_encoder_reads_are_refused(tmp_path):
    saved(tmp_path, "clip")
    with pytest.raises(UserError, match=r"text.max_tokens is 64, but the encoder reads at most 20"):
        load_text_encoder(stage_of(tmp_path, max_tokens=64))


def test_a_folder_without_an_encoder_is_refused_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"nowhere: no such folder of a text encoder"):
        stage_of(tmp_path / "nowhere")
    saved(tmp_path / "bert", "bert")
    weights = tmp_path / "bert" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"bert: cannot be loaded as a text encoder: ") as refusal:
        load_text_encoder(stage_of(tmp_path / "bert"))
    assert "\n" not in str(refusal.value)
    weights.unlink()
    torch.save(bert().state_dict(), tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds no \*.safetensors"):
        stage_of(tmp_path / "bert")
    saved(tmp_path / "t5", "t5")
    shutil.copy(tmp_path / "t5" / "model.safetensors", weights)
    with pytest.raises(UserError, match=r"its safetensors lack \d+ tensors of the model, such as embeddings"):
        load_text_encoder(stage_of(tmp_path / "bert"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs the extra 'hf': pip install 'scaling\[hf\]'"):
        stage_of(tmp_path / "t5")


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    saved(tmp_path, "bert")
    (tmp_path / "model_code.py").write_text("raise SystemExit('the code of the model ran')")
    config = tmp_path / "config.json"
    code = '"auto_map": {"AutoConfig": "model_code.Config", "AutoModelForTextEncoding": "model_code.Model"}, '
    config.write_text(config.read_text().replace('"model_type": "bert"', f'{code}"model_type": "custom"'))
    with pytest.raises(UserError, match="cannot be loaded as a text encoder"):
        load_text_encoder(stage_of(tmp_path))


def test_an_encoder_is_identified_by_its_content_and_not_by_its_path(tmp_path):
    saved(tmp_path / "here", "t5")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / "README.md").write_text("is not read")
    here, there = stage_of(tmp_path / "here"), stage_of(tmp_path / "there")
    assert here.id == there.id
    assert here.folder != there.folder
    for change in ("model.safetensors", "tokenizer.json", "config.json"):
        (tmp_path / "there" / change).write_bytes((tmp_path / "there" / change).read_bytes() + b" ")
        changed = stage_of(tmp_path / "there")
        assert changed.id != there.id
        with pytest.raises(UserError, match="has changed since the plan"):
            load_text_encoder(there)
        there = changed


def test_a_sweep_finds_its_encoder_relative_to_its_file_and_counts_its_width(tmp_path):
    saved(tmp_path / "encoders" / "t5", "t5")
    document = yaml.safe_load((Path(__file__).parents[1] / "sweeps" / "shipped" / "demo.yaml").read_text())
    plans = []
    for text in ({"encoder": "encoders/t5", "width": WIDTH}, {"encoder": "./encoders/t5", "width": WIDTH}, {}):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**document, "text": text}))
        plans.append(plan(load_sweep(str(tmp_path / "mine.yaml"))))
    assert plans[0] == plans[1]
    assert plans[0].runs[0].id != plans[2].runs[0].id
    assert plans[0].runs[0].n_params == plans[2].runs[0].n_params  # N has no embeddings
    assert plans[0].disk_bytes < plans[2].disk_bytes


def test_a_name_on_the_hub_becomes_its_commit(tmp_path, monkeypatch):
    """The cache of the hub as a download leaves it, and no network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "models--someone--tiny-t5"
    network = saved(model / "snapshots" / commit, "t5")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    stage = stage_of("someone/tiny-t5")
    assert stage.id == stage_of(f"someone/tiny-t5@{commit}").id
    assert stage.fields_as(LatentsFields).text.encoder == f"someone/tiny-t5@{commit}"
    loaded = load_text_encoder(stage)
    assert torch.equal(loaded.network.shared.weight, network.shared.weight)
    with pytest.raises(UserError, match="give 32"):
        stage_of("someone/tiny-t5", width=384)
    wrong_fields = LatentsFields(text=TextSpec(encoder=f"someone/tiny-t5@{commit}", width=384))
    with pytest.raises(UserError, match=r"someone/tiny-t5@.*: its token states have width 32, but text.width is 384"):
        load_text_encoder(Stage(slug="latents", fields=wrong_fields, parents={}))
    with pytest.raises(UserError, match=r"someone/else: neither a folder .* nor available from the Hugging Face hub"):
        stage_of("someone/else")
