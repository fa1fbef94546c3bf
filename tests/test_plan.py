"""A plan is right about N, D and C, and a login node can make it: no torch."""

import json
import math
import subprocess
import sys

import pytest

from scaling import flops
from scaling.batching import TokenBatches
from sweeps.plan import plan
from sweeps.spec import load_sweep
from sweeps.stages import common_stages, run_stage

NATIVE_GRIDS = [(1, 4, 4), (1, 3, 6), (2, 4, 4), (3, 2, 4), (3, 4, 2), (5, 3, 3), (5, 4, 4), (9, 2, 2)]
"""Tokens along t, h, w of the eight sizes of the sweep `native`."""


def in_fresh_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "import analysis",
        "import analysis.forecast, analysis.report, analysis.figures",
        "import sweeps.plan, sweeps.spec",
        "import slurm.local",
        "import scaling.cli.main; scaling.cli.main.main(['plan', 'base_4x_32x'])",
        "import scaling.cli.main; scaling.cli.main.main(['plan', 'demo', '--json'])",
    ],
)
def test_no_torch(code):
    loaded = in_fresh_process(f"{code}\nimport sys\nassert not {{'torch', 'lightning'}} & set(sys.modules)")
    assert loaded.returncode == 0, loaded.stderr


def test_the_plan_names_the_runs_that_will_run():
    sweep = load_sweep("demo")
    planned = plan(sweep)
    common = common_stages(sweep)
    assert planned.runs[0].id == run_stage(sweep, common, 1, sweep.ladder[1][0]).id
    for line in planned.runs:
        multiple = 1 if line.compute == "base" else int(line.compute[:-1])
        assert line.train_flops == pytest.approx(sweep.base_flops * multiple, rel=0.02)
        assert line.n_params == flops.non_embedding(flops.dit_params(sweep.size(line.size), sweep.vae.latent_channels))
        assert not line.done
    assert planned.hours > 0
    assert planned.price > 0


def test_worlds_of_several_sizes_are_priced_as_the_mixture_that_they_are():
    sweep = load_sweep("native")
    line, grids = plan(sweep).runs[0], [grid for grid in NATIVE_GRIDS for _ in range(16)]
    lengths = [math.prod(grid) for grid in grids]
    batches = TokenBatches(lengths, sweep.optim.batch_tokens, seed=5)
    steps = tokens = spent = 0
    while spent < sweep.base_flops:
        update = batches(steps)
        spent += flops.dit_training(sweep.size(line.size), 8, [grids[clip] for clip in update], 16)
        steps, tokens = steps + 1, tokens + sum(lengths[clip] for clip in update)
    assert line.steps == pytest.approx(steps, rel=0.01)
    assert line.num_tokens == pytest.approx(tokens, rel=0.01)
    assert line.train_flops == pytest.approx(sweep.base_flops, rel=0.01)
    latents = next(stage for stage in plan(sweep).stages if stage.kind == "latents")
    assert latents.disk_bytes == 4 * 32 * 1024 / 8 * sum(map(math.prod, NATIVE_GRIDS))


def test_plan_prints_every_run_and_json(capsys):
    from scaling.cli.main import main

    assert main(["plan", "base_4x_32x"]) == 0
    text = capsys.readouterr().out
    assert text.count("w384d12 ") == 3
    assert "GPU-hours" in text
    assert main(["plan", "base_4x_32x", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["runs"]) == 10
    assert {"n_params", "num_tokens", "train_flops", "hours", "gpu_hours", "price"} <= document["runs"][0].keys()


def test_dit_xl_2_is_the_published_one():
    """The tower of DiT-XL/2 (arXiv 2212.09748): 118.6 GMAC come from attention, MLPs and per-block modulation."""
    d, blocks, tokens = 1152, 28, 256
    ours = flops.dit_forward(load_sweep("demo").size("w1152d28"), 4, [(1, 16, 16)], text_tokens=1) / 2
    published_tower = blocks * (12 * d * d * tokens + 2 * tokens * tokens * d)
    cross = blocks * (2 * d * d * tokens + 2 * d * d + 2 * tokens * d)
    assert ours == pytest.approx(published_tower + cross, rel=0.002)
    assert published_tower + blocks * 6 * d * d == pytest.approx(118.6e9, rel=0.002)
