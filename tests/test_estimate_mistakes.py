"""Mistakes in the options and files of `scaling estimate --preset`: one line, exit code 2."""

import pytest

from tests.estimate_command import PRESET, assert_one_line


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["Exactly 1 of {--preset, --runs}"]),
        (["--preset", "sorra"], ["no preset 'sorra'", "did you mean 'sora'"]),
        (["--preset", "xyz"], ["shipped ones: sora"]),
        (["--preset", "sora", "--runs", "x"], ["Exactly 1 of {--preset, --runs}"]),
        (["--preset", "sora", "--flops", "1e13"], ["--flops is for --runs"]),
        (["--preset", "sora", "--set", "difusion_steps=20"], ["'difusion_steps'", "did you mean 'diffusion_steps'"]),
        (["--preset", "sora", "--set", "qqq=20"], ["known ones: dit_training_flops"]),
        (["--preset", "sora", "--set", "diffusion_steps"], ["NAME=VALUE"]),
        (["--preset", "sora", "--set", "diffusion_steps="], ["diffusion_steps=", "NAME=VALUE"]),
        (["--preset", "sora", "--set", "diffusion_steps=many"], ["diffusion_steps: 'many'"]),
        (["--preset", "sora", "--set", "diffusion_steps=0"], ["0 is not possible", "above 0"]),
        (["--preset", "sora", "--set", "diffusion_steps=-5"], ["-5"]),
        (["--preset", "sora", "--set", "diffusion_steps=nan"], ["nan"]),
        (["--preset", "sora", "--set", "diffusion_steps=1e999"], ["1e999"]),
        (["--preset", "sora", "--set", "diffusion_steps=1e300"], ["inference_flops_per_video", "less extreme"]),
        (["--preset", "sora", "--set", "diffusion_steps=1e-300..1"], ["inference_flops_per_video", "less extreme"]),
        (["--preset", ""], ["no preset ''"]),
        (["--preset", "sora", "--set", "diffusion_steps=9..3"], ["9..3 does not rise"]),
        (["--preset", "sora", "--set", "diffusion_steps=1..2..3"], ["1..2..3"]),
        (["--preset", "sora", "--set", "hardware_utilization=40"], ["40 is not possible", "at most 1"]),
        (["--preset", "sora", "--set", "video_share=0.5..2"], ["0.5..2 is not possible"]),
        (["--preset", "sora", "--assumptions", "nowhere.yaml"], ["nowhere.yaml: no such file"]),
        (["--preset", "sora", "--plot", "outputs.gif"], ["outputs.gif", ".svg"]),
        (["--runs", "nowhere", "--flops", "1e13"], ["nowhere"]),
        (["--runs", "nowhere"], ["--flops C or --loss L"]),
        (["--runs", "nowhere", "--flops", "-1"], ['Invalid value "-1.0" for --flops. Must be > 0']),
        (["--runs", "nowhere", "--loss", "nan"], ['Invalid value "nan" for --loss']),
        (["--runs", "nowhere", "--flops", "1e13", "--loss", "1"], ["Mutually exclusive arguments: {--flops, --loss}"]),
        (["--runs", "nowhere", "--flops", "1e13", "--plot", "x.png"], ["nothing to draw"]),
    ],
)
def test_mistakes(capsys, arguments, fragments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(capsys, ["estimate", *arguments], *fragments)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("diffusion_steps: [20", "not valid YAML"),
        ("", "expected a mapping"),
        ("- 20", "expected a mapping"),
        ("difusion_steps: 20", "did you mean 'diffusion_steps'"),
        ("diffusion_steps: true", "True is neither"),
        ("diffusion_steps: {low: 3}", "neither a number"),
        ("diffusion_steps: [1, 2, 3]", "neither a number"),
        ("diffusion_steps:", "None is neither"),
        ("1: 2", "no assumption '1'"),
    ],
)
def test_mistakes_in_a_file(capsys, tmp_path, text, fragment):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert_one_line(capsys, [*PRESET, "--assumptions", path], path, fragment)
