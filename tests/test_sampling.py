"""Sampling: the order of each solver, conditioning frames that stay unchanged, guidance only in its interval; and
`scaling sample`, from a prompt to a file."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from av import VideoFrame
from PIL import Image

from scaling.cli.main import main
from scaling.core.specs import EvalSpec, Prediction
from scaling.core.stage_folder import StageFolder
from scaling.data.frames import read_video
from scaling.data.video import write_video
from scaling.diffusion.flow import mix, seeded_noise, to_velocity
from scaling.diffusion.inference import decode, encode, load_vae
from scaling.diffusion.sampling import ConditioningFrames, Edit, Sampler, sample
from scaling.diffusion.solvers import integrate, times
from scaling.diffusion.video_sampling import SampleRequest, VideoSampler
from scaling.stages.run import run_stage
from sweeps.load import load_sweep
from tests.sweep_stages import ladder_stages, shared_stages
from tests.test_models import CHANNELS, caption, dit

SOLVERS = {"euler": 1, "heun": 2, "multistep": 2}
"""Every solver and its order."""
SHAPE = (3, 4, 4)
"""Size of the sampled latents: t, h, w."""
SEEDS = [(0, 5, 0), (0, 5, 1), (0, 5, 2)]
SAMPLER = Sampler("euler", 3, 2.0, (0.0, 1.0))


@pytest.mark.parametrize("tokens", [64, 256, 4096])
def test_times_fall_from_start_to_nothing(tokens):
    full, late = times(20, tokens, 256), times(20, tokens, 256, start=0.6)
    assert (full[0], full[-1], late[0], late[-1]) == (1.0, 0.0, 0.6, 0.0)
    assert all(now > then for grid in (full, late) for now, then in pairwise(grid))
    steps = [now - then for now, then in pairwise(full)]
    # long clips take small steps in the noise, where their shape is decided
    assert (steps[0] > 1.5 * steps[-1], steps[-1] > 1.5 * steps[0]) == (tokens < 256, tokens > 256)
    if tokens == 256:
        assert full == torch.linspace(1, 0, 21).tolist()


def test_a_later_start_takes_the_times_that_are_left():
    full = times(10, 4096, 256)
    assert times(6, 4096, 256, start=full[4]) == pytest.approx(full[4:], abs=1e-6)


@pytest.mark.parametrize(("solver", "order"), SOLVERS.items())
def test_a_solver_has_its_order(solver, order):
    """dz/dt = 1.5 (1 + t) z, z = exp(1.5 t + 0.75 t^2), on a grid that is not even."""
    start, steps = torch.full((1,), math.exp(2.25)), np.array([16, 32, 64, 128])
    errors = [
        abs(integrate(solver, lambda z, t: 1.5 * (1 + t) * z, start, times(count, 1024, 256)).item() - 1)
        for count in steps.tolist()
    ]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_a_straight_path_is_exact(solver, steps):
    """A perfect network is integrated exactly for both predictions, also with few tokens, where the last times are near
    0."""
    clean, noise = torch.randn(2, 50)
    answers: dict[Prediction, torch.Tensor] = {"velocity": noise - clean, "clean": clean}
    for prediction, answer in answers.items():
        for tokens in (16, 1024):
            end = integrate(
                solver,
                lambda z, t, answer=answer, prediction=prediction: to_velocity(answer, z, torch.tensor(t), prediction),
                noise,
                times(steps, tokens, 256),
            )
            torch.testing.assert_close(end, clean, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 5), ("heun", 9), ("multistep", 5)])
def test_a_solver_costs_what_it_says(solver, evaluations):
    calls = []
    integrate(solver, lambda z, t: calls.append(t) or z, torch.ones(1), times(5, 256, 256))
    assert len(calls) == evaluations
    assert min(calls) > 0


@pytest.mark.parametrize("prediction", ["velocity", "clean"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sample_does_not_depend_on_its_batch(prediction, solver):
    model, words, sampler = dit(prediction=prediction), caption(3), Sampler(solver, 3, 2.0, (0.0, 1.0))
    batch = sample(model, words, SHAPE, SEEDS, sampler)
    assert batch.shape == (3, *SHAPE, CHANNELS)
    assert batch.dtype == torch.float32
    alone = sample(model, words.rows([1]), SHAPE, SEEDS[1:2], sampler)
    # bfloat16 arithmetic, so equal to its rounding
    torch.testing.assert_close(batch[1:2], alone, rtol=0.05, atol=0.05)
    assert not torch.allclose(batch[0], batch[1])


def counted(model):
    """A list to which every forward pass of the model appends its number of clips."""
    counts = []
    model.register_forward_pre_hook(lambda _, arguments: counts.append(len(arguments[1])))
    return counts


def test_guidance_acts_in_its_interval_alone_and_costs_nothing_elsewhere():
    model, words = dit(shift_tokens=12), caption(1)
    counts = counted(model)

    def sampled(guidance, interval):
        counts.clear()
        return sample(model, words, SHAPE, SEEDS[:1], Sampler("euler", 4, guidance, interval)), list(counts)

    plain, cost = sampled(3.0, (0.0, 1.0))
    assert cost == [2, 2, 2, 2]
    conditional, cost = sampled(1.0, (0.0, 1.0))
    assert cost == [1, 1, 1, 1]
    inside, cost = sampled(3.0, (0.3, 0.8))  # of the times 1, .75, .5 and .25
    assert cost == [1, 2, 2, 1]
    assert not torch.allclose(inside, plain)
    assert not torch.allclose(inside, conditional)
    torch.testing.assert_close(sampled(3.0, (0.05, 0.1))[0], conditional)


def test_guidance_is_the_papers():
    """One step from noise: z - ((1 - w) v_unconditional + w v_conditional) with w = 3."""
    model, words = dit(), caption(1)
    noise, every = seeded_noise((*SHAPE, CHANNELS), *SEEDS[0])[None], torch.ones(1, dtype=torch.bool)
    sampler = Sampler("euler", 1, 1.0, (0.0, 1.0))
    conditional, unconditional = (
        noise - sample(model, caption, SHAPE, SEEDS[:1], sampler) for caption in (words, words.dropped(every))
    )
    guided = noise - sample(model, words, SHAPE, SEEDS[:1], Sampler("euler", 1, 3.0, (0.0, 1.0)))
    torch.testing.assert_close(guided, -2 * unconditional + 3 * conditional, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("prediction", ["velocity", "clean"])
@pytest.mark.parametrize(("at", "frames"), [("start", slice(2)), ("end", slice(-2, None))])
def test_conditioning_frames_stay_unchanged_and_change_the_others(solver, prediction, at, frames):
    model, words, sampler = dit(prediction=prediction), caption(2), Sampler(solver, 3, 2.0, (0.0, 1.0))
    first, second = (torch.randn(2, 4, 4, CHANNELS) for _ in range(2))
    sampled = sample(model, words, SHAPE, SEEDS[:2], sampler, conditioning=ConditioningFrames(first, at))
    assert torch.equal(sampled[:, frames], first.expand(2, -1, -1, -1, -1))
    changed = sample(model, words, SHAPE, SEEDS[:2], sampler, conditioning=ConditioningFrames(second, at))
    rest = [frame for frame in range(3) if frame not in range(3)[frames]]
    assert not torch.allclose(sampled[:, rest], changed[:, rest])
    with torch.no_grad():
        model.conditioning_mark.zero_()
    unmarked = sample(model, words, SHAPE, SEEDS[:2], sampler, conditioning=ConditioningFrames(first, at))
    assert not torch.allclose(sampled[:, rest], unmarked[:, rest])


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_edit_goes_from_nothing_to_a_fresh_sample(solver):
    model, words, sampler = dit(), caption(2), Sampler(solver, 4, 2.0, (0.0, 1.0))
    latents = torch.randn(*SHAPE, CHANNELS)
    hardly = sample(model, words, SHAPE, SEEDS[:2], sampler, edit=Edit(latents, 1e-5))
    torch.testing.assert_close(hardly, latents.expand(2, -1, -1, -1, -1), rtol=0, atol=1e-3)
    fresh = sample(model, words, SHAPE, SEEDS[:2], sampler)
    assert torch.equal(sample(model, words, SHAPE, SEEDS[:2], sampler, edit=Edit(latents, 1.0)), fresh)
    # a later start leaves more of the video
    distances = [
        (sample(model, words, SHAPE, SEEDS[:2], sampler, edit=Edit(latents, strength)) - latents).square().mean()
        for strength in (0.2, 0.5, 0.8)
    ]
    assert distances == sorted(distances)


def test_an_edit_starts_from_the_flows_own_mixture():
    """A flow whose velocity is zero ends where it starts."""
    model, latents = dit(), torch.randn(*SHAPE, CHANNELS)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    edited = sample(model, caption(1), SHAPE, SEEDS[:1], SAMPLER, edit=Edit(latents, 0.3))
    noise = seeded_noise((*SHAPE, CHANNELS), *SEEDS[0])
    torch.testing.assert_close(edited[0], mix(latents, noise, torch.tensor(0.3)))


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 2, 10), (9, 2, 2), (2, 12, 6)])
def test_any_size_can_be_sampled(shape):
    """An image is a video of one latent frame."""
    assert sample(dit(), caption(1), shape, SEEDS[:1], SAMPLER).isfinite().all()


def test_the_sampler_of_an_evaluation_has_its_settings():
    evaluation = EvalSpec(solver="heun", sample_steps=7, guidance=3.0, guidance_interval=(0.1, 0.9))
    assert Sampler.from_spec(evaluation) == Sampler("heun", 7, 3.0, (0.1, 0.9))


SIZE = (64, 64)
"""Of the tiny run's clips; width and height."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of two of the smallest runs by name: one trained with conditioning frames and one without."""
    folder, sweep = tmp_path_factory.mktemp("runs"), load_sweep("tiny")
    common = shared_stages(sweep)
    folders = {}
    for name, chance in (("conditioned", 0.5), ("plain", 0.0)):
        optim = sweep.optim.replace(conditioning_frames=chance)
        evaluation = sweep.evaluation.replace(prompt_count=1, sample_steps=1, sample_at=(1.0,))
        changes = {"optim": optim, "evaluation": evaluation, "base_flops": 2e9}
        run = ladder_stages(sweep.replace(**changes))[-1]
        for stage in (common.data, common.vae, common.latents, run):
            run_stage(str(StageFolder.create(folder, stage).path))
        folders[name] = folder / run.id
    return folders


@pytest.fixture(scope="module")
def files(runs):
    """A video of 12 frames and a still, larger than the clips and of another shape, at twice their rate."""
    folder = runs["conditioned"].parent
    rows, columns = np.mgrid[:96, :160]
    moving = [np.stack([(columns + 3 * t) % 256, rows * 2, np.full_like(rows, 90)], axis=-1) for t in range(24)]
    pictures = np.stack(moving).astype(np.uint8)
    write_video(folder / "video.mp4", pictures, 16)
    VideoFrame.from_ndarray(pictures[0], format="rgb24").save(folder / "still.png")
    return {"video": folder / "video.mp4", "still": folder / "still.png"}


def command(runs, out, *options, run="conditioned"):
    """The exit code of `scaling sample`."""
    fixed = ["--prompt", "a red ball", "--steps", 2, "--out", out, "--json"]
    return main(list(map(str, ["sample", runs[run], *fixed, *options])))


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.mark.parametrize(
    ("options", "length", "place"),
    [
        (["--start", "video"], 12 + 12, slice(12)),
        (["--start", "video", "--conditioning-frames", 9], 12 + 8, slice(12)),
        (["--start", "still", "--frames", 9, "--solver", "heun"], 1 + 8, slice(1)),
        (["--end", "video"], 12 + 12, slice(-12, None)),
        (["--end", "video", "--conditioning-frames", 9, "--solver", "multistep"], 12 + 8, slice(-12, None)),
    ],
)
def test_a_file_goes_on_in_both_directions(runs, files, tmp_path, capsys, options, length, place):
    name = options[1]
    file, out = files[name], tmp_path / "out.mp4"
    assert command(runs, out, options[0], file, *options[2:]) == 0
    document = json.loads(capsys.readouterr().out)
    result, original = read_video(out, SIZE, 8), read_video(file, SIZE, 8)
    assert document["frames"] == len(result) == length
    vae = load_vae(StageFolder(runs["conditioned"]).parent("vae"))
    through_vae = decode(vae, encode(vae, original[None, : (len(original) - 1) // 4 * 4 + 1]))[0]
    assert psnr(result[place], original) > 35 > psnr(through_vae, original[: len(through_vae)])


def test_new_frames_depend_on_the_conditioning_frames(runs, files):
    """Other conditioning frames give other new frames; the same ones give the same."""
    folder = StageFolder(runs["conditioned"])
    trained, video = VideoSampler(folder), read_video(files["video"], SIZE, 8)
    request = SampleRequest("a red ball", 0, 17, 64, 64, Sampler("euler", 2, 1.0, (0.0, 1.0)))
    for continue_video in (trained.after, trained.before):
        continued = continue_video(request, video, 5)
        assert continued.shape == (12, 64, 64, 3)
        assert not np.array_equal(continued, continue_video(request, video[::-1].copy(), 5))
        assert np.array_equal(continued, continue_video(request, video, 5))


def test_an_edit_is_as_long_as_its_file(runs, files, tmp_path, capsys):
    distances = []
    for number, strength in enumerate((0.05, 0.95)):
        out = tmp_path / f"{number}.mp4"
        assert command(runs, out, "--edit", files["video"], "--strength", strength, run="plain") == 0
        assert json.loads(capsys.readouterr().out)["frames"] == 9  # 1 + 4k of 12
        distances.append(psnr(read_video(out, SIZE, 8), read_video(files["video"], SIZE, 8)[:9]))
    assert distances[0] > distances[1]
    assert command(runs, tmp_path / "still.mp4", "--edit", files["still"], run="plain") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 1


def test_sizes_never_trained_and_guidance_intervals(runs, tmp_path, capsys):
    options = ["--width", 96, "--height", 32, "--frames", 21, "--guidance-interval", 0.2, 0.8]
    assert command(runs, tmp_path / "wide.mp4", *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert [document[name] for name in ("frames", "height", "width", "fps")] == [21, 32, 96, 8]


def test_a_colon_in_the_name_of_the_result_is_a_letter(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(runs, "12:30.mp4", "--width", 32, "--height", 16, "--frames", 5) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "12:30.mp4"
    assert len(read_video(tmp_path / "12:30.mp4", (32, 16), 8)) == 5


def test_a_picture_shows_frames_side_by_side(runs, tmp_path, capsys):
    size = ["--width", 32, "--height", 16]
    assert command(runs, tmp_path / "strip.png", *size, "--frames", 5) == 0
    assert command(runs, tmp_path / "still.png", *size, "--frames", 1) == 0
    strip, still = (np.asarray(Image.open(tmp_path / name)) for name in ("strip.png", "still.png"))
    assert strip.shape == (16, 5 * 32 + 4 * 2, 3)
    assert (strip[:, 32:34] == 255).all()
    assert still.shape == (16, 32, 3)
    assert command(runs, tmp_path / "clip.gif") == 2
    assert "ends in .mp4, for a video, or in .png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--start", "video", "--edit", "video"], "Mutually exclusive arguments: {--start, --edit}"),
        (["--start", "video", "--strength", 0.5], "--strength is for --edit"),
        (["--edit", "video", "--strength", 0], 'Invalid value "0.0" for --strength. Must be > 0'),
        (["--edit", "video", "--conditioning-frames", 5], "--conditioning-frames is for --start or --end"),
        (["--edit", "video", "--frames", 13], "has 12 at 8 fps"),
        (["--conditioning-frames", 5], "--conditioning-frames is for --start or --end"),
        (["--start", "video", "--conditioning-frames", 6], "--conditioning-frames is 6, but must be 1 + 4k, such as 5"),
        (
            ["--start", "video", "--conditioning-frames", 13],
            "12 frames at 8 fps, but 13 conditioning frames are",
        ),
        (["--start", "video", "--frames", 5], "none is left to sample"),
        (["--start", "still", "--conditioning-frames", 5], "or --conditioning-frames 1"),
        (["--end", "still"], "--end needs 5 frames"),
        (["--end", "video", "--conditioning-frames", 1], "--end needs 5 frames"),
        (["--start", "nowhere.mp4"], "nowhere.mp4: cannot be read"),
        (["--edit", Path(__file__)], "test_sampling.py: not a video"),
        (["--frames", 16], "--frames is 16, but must be 1 + 4k, such as 17"),
        (["--width", 60], "--width is 60, but must be a multiple of 16"),
        (["--guidance-interval", 0.5, 0.5], "must rise within 0 and 1"),
        (["--guidance", "nan"], 'Invalid value "nan" for --guidance'),
        (["--solver", "magic"], 'Invalid value "magic" for --solver. Choose from: "euler"'),
    ],
)
def test_mistakes_are_one_line(runs, files, tmp_path, capsys, options, fragment):
    options = [files.get(option, option) for option in options]
    assert command(runs, tmp_path / "out.mp4", *options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert fragment in lines[0]
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("option", ["--start", "--end"])
def test_a_run_trained_without_conditioning_frames_says_so(runs, files, tmp_path, capsys, option):
    assert command(runs, tmp_path / "out.mp4", option, files["video"], run="plain") == 2
    stderr = capsys.readouterr().err
    assert "optim.conditioning_frames" in stderr
    assert option in stderr
