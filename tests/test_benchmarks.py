"""The benchmarks compare what they say: equal shapes, equal work, ratios of neighboring turns."""

import math

import pytest
import torch

from benchmarks.cases import KINDS, cases
from benchmarks.measure import Timing
from benchmarks.packing import batch, training, waste
from benchmarks.peers import COMPILED, OURS, build, meeting, text_for
from benchmarks.report import document, markdown, measure, setting
from benchmarks.shapes import CPU_MIXES, CPU_VIDEOS, NATIVE, MixedShape, Shape, VideoShape
from benchmarks.vae import CHUNKED, passing

CPU = torch.device("cpu")
SMALL = (Shape("w32d2", (3, 2, 2), 2), Shape("w32d2", (1, 3, 3), 2))


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_every_peer_reads_the_batch_and_answers_in_its_shape(shape):
    for name in meeting(shape, "cpu"):
        network = build(name, shape)
        latents = torch.randn(network.latents)
        velocity = network.velocity(latents, torch.rand(shape.clips), text_for(shape, CPU))
        assert velocity.numel() in (latents.numel(), 2 * latents.numel())  # DiT gives a variance beside every output
        assert latents.numel() == shape.tokens * 16 * shape.dit.patch**2


def test_compiled_contenders_are_marked_and_exist():
    names = meeting(SMALL[0], "cuda")
    assert {OURS + COMPILED, "wan" + COMPILED} <= set(names)
    for name in names:
        assert build(name, SMALL[0]).rows


def test_our_vae_and_wans_give_latents_and_pixels_of_one_shape():
    shape = VideoShape(5, 16, 16)
    for direction in ("encode", "decode"):
        unchunked, chunked, peer = (passing(direction, shape, "fp32", name, CPU) for name in ("ours", CHUNKED, "wan"))
        assert unchunked.params == chunked.params
        assert unchunked.params == pytest.approx(peer.params, rel=1e-3)
        parts = chunked.step()
        first = parts if direction == "decode" else [part[0] for part in parts]
        assert sum(part.shape[1] for part in first) == (5 if direction == "decode" else 2)


def test_packed_and_padded_train_on_the_same_clips():
    shape = MixedShape("w32d2", NATIVE, 200)
    packed, padded = (training(shape, "fp32", padded, "", CPU) for padded in (False, True))
    assert packed.units == padded.units == sum(map(math.prod, batch(shape)))
    assert packed.flops == padded.flops
    packed.step()
    padded.step()


def test_packing_wastes_what_was_promised_and_padding_more_than_half():
    for shape in CPU_MIXES:
        wasted = waste(shape)
        assert wasted["packed"] < 0.02
        assert wasted["padded"] > 0.5


def test_a_ratio_is_of_the_same_round():
    slow, fast = Timing((2.0, 20.0, 200.0)), Timing((1.0, 10.0, 100.0))
    assert slow.slower_than(fast) == (2.0, 2.0, 2.0)


def test_there_is_a_case_of_every_kind_for_every_device():
    for device in ("cpu", "cuda"):
        all_cases = list(cases(KINDS, ("fp32", "bf16"), device))
        assert {case.kind for case in all_cases} == set(KINDS)
        assert {case.precision for case in all_cases} == {"fp32", "bf16"}
    assert CPU_VIDEOS[0].frames == 1


def test_a_case_is_measured_and_told():
    (case,) = [candidate for candidate in cases(("packing",), ("fp32",), "cpu") if "w96d4" in candidate.shape]
    result = measure(case, CPU, seconds=0.01, threads=torch.get_num_threads())
    ceilings = {"fp32": 1e11}
    rows = document([result], {}, setting(CPU, 1, ceilings), ceilings)["rows"]
    assert [row["name"] for row in rows] == ["packed", "padded"]
    assert rows[0]["against_ours"] == (1.0, 1.0, 1.0)
    assert all(row["peak_bytes"] > 4 * row["params"] for row in rows)
    assert markdown(result, 1e11).splitlines()[-1].startswith("| packing | w96d4 1280 tokens of 8 sizes | fp32")
