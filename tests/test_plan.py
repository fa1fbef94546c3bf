"""A plan is right about N, D and C, and a login node can make it: no torch."""

import json
import math
import subprocess
import sys

import pytest
import yaml

from benchmarks.planning import sweep_of_1000
from scaling.accounting import flops
from scaling.core.records import RunRecord, Trial, write_record
from scaling.core.specs import EngineSpec
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_document
from scaling.data.token_batches import TokenBatches
from sweeps.ladder import with_rates
from sweeps.load import load_sweep
from sweeps.planning.capacity import Capacity
from sweeps.planning.plan import FIT_HOURS, plan
from sweeps.planning.pricing import price_stages
from sweeps.planning.wall_time import ScheduledJob, wall_hours
from sweeps.spec import TuningSpec, sized
from sweeps.tuning import choose_rates
from tests.planted import complete
from tests.sweep_stages import ladder_stages, metrics_stage, run_stage, shared_list, trial_stage, trunk_stages

DEMO_GRID = (5, 4, 4)
"""Tokens along t, h, w of the demo's clips: 17 frames of 64 x 64 pixels, a stride of 4 x 8 x 8, a patch of 2."""

NATIVE_GRIDS = [(1, 4, 4), (1, 3, 6), (2, 4, 4), (3, 2, 4), (3, 4, 2), (5, 3, 3), (5, 4, 4), (9, 2, 2)]
"""Tokens along t, h, w of the eight sizes of the sweep `native`."""


def capacity(**changes):
    """Sixteen GPUs, up to eight in a run, that do the base budget of the demo in an hour each."""
    fields = {
        "flops_per_gpu": 5.6e11 / 3600,
        "peak_flops": 1e9,
        "gpus_per_node": 8,
        "gpus_per_run": 8,
        "gpus": 16,
        "hours_per_run": 1.01,
        "price_per_gpu_hour": 2.0,
    }
    return Capacity(**{**fields, **changes})


def in_fresh_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "import analysis",
        "import analysis.forecast.forecast, analysis.report.page, analysis.figures.forecast",
        "import sweeps.planning.plan, sweeps.spec",
        "import slurm.local_stages",
        "import slurm.controller_job, scaling.cli.status, slurm.states, slurm.submit, slurm.worker",
        "import scaling.cli.main; scaling.cli.main.main(['submit', 'demo', '--cluster', 'h100', '--dry-run'])",
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
    assert planned.runs[0].id == run_stage(sweep, 1, sweep.ladder[1][0]).id
    for line in planned.runs:
        assert line.train_flops == pytest.approx(sweep.base_flops * line.multiple, rel=0.02)
        assert line.n_params == flops.non_embedding(
            flops.dit_params(sized(sweep.dit, line.size), sweep.vae.latent_channels)
        )
        assert not line.done
    assert planned.hours > 0
    assert planned.price > 0


def _n_params(sweep, size):
    return flops.non_embedding(flops.dit_params(sized(sweep.dit, size), sweep.vae.latent_channels))


def test_worlds_of_several_sizes_are_priced_as_the_mixture_that_they_are():
    sweep = load_sweep("native")
    line, grids = plan(sweep).runs[0], [grid for grid in NATIVE_GRIDS for _ in range(16)]
    lengths = [math.prod(grid) for grid in grids]
    batches = TokenBatches(lengths, sweep.optim.batch_tokens, seed=5)
    steps = tokens = spent = 0
    while spent < sweep.base_flops:
        update = batches(steps)
        spent += flops.dit_training(sized(sweep.dit, line.size), 8, [grids[clip] for clip in update], 16)
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
    ours = flops.dit_forward(sized(load_sweep("demo").dit, "w1152d28"), 4, [(1, 16, 16)], text_tokens=1) / 2
    published_tower = blocks * (12 * d * d * tokens + 2 * tokens * tokens * d)
    cross = blocks * (2 * d * d * tokens + 2 * d * d + 2 * tokens * d)
    assert ours == pytest.approx(published_tower + cross, rel=0.002)
    assert published_tower + blocks * 6 * d * d == pytest.approx(118.6e9, rel=0.002)


def test_a_run_of_the_demo_by_hand():
    """Every number of one line, from what the sweep's file says."""
    sweep = load_sweep("demo")
    line = next(line for line in plan(sweep).runs if (line.compute, line.size) == ("4x", "w64d2"))
    dit, clips = sized(sweep.dit, "w64d2"), 16  # of 80 tokens in a batch of 1280
    assert line.n_params == 167456
    step = flops.dit_training(dit, 8, [DEMO_GRID] * clips, 16)
    assert line.steps == round(4 * 5.6e11 / step)
    assert line.num_tokens == 1280 * line.steps
    assert line.train_flops == pytest.approx(line.steps * step)
    clip_flops = flops.dit_forward(dit, 8, [DEMO_GRID], 16)
    videos = (
        3 * 6 * (20 * 2 * clip_flops + flops.vae_decode(sweep.vae, 17, 64, 64))
    )  # three times six prompts, with guidance
    validation = 256 * 8 * clip_flops
    assert line.hours == pytest.approx((line.train_flops + videos + validation) / 6e10 / 3600)
    assert line.disk_bytes == 4 * 9 * sum(flops.dit_params(dit, 8).values())
    assert (line.gpus, line.gpu_hours) == (0, 0.0)
    assert line.price == pytest.approx(line.hours * 0.08)


def test_a_run_gets_twice_the_gpus_as_long_as_it_would_take_too_long():
    sweep, cluster = load_sweep("demo"), capacity()
    lines = {line.compute: line for line in plan(sweep, capacity=cluster).runs if line.size in ("w96d3", "w96d4")}
    assert {compute: line.gpus for compute, line in lines.items()} == {"base": 1, "2x": 2, "4x": 4, "32x": 8}
    for line in lines.values():
        assert line.hours > line.train_flops / line.gpus / cluster.flops_per_gpu / 3600
        assert line.gpu_hours == pytest.approx(line.hours * line.gpus)
        assert line.price == pytest.approx(2 * line.gpu_hours)
    by_kind = {stage.kind: stage.gpus for stage in plan(sweep, capacity=cluster).stages}
    assert by_kind["data"] == 0
    assert by_kind["latents"] == by_kind["reference"] == by_kind["metrics"] == by_kind["reconstruction"] == 1
    assert by_kind["vae"] == 8  # 19 times the base budget


def test_finished_runs_say_how_fast_training_is(tmp_path):
    """Of the same kind of device alone, and those of the nearest N."""
    sweep, runs = load_sweep("demo"), tmp_path / "runs"
    complete(shared_list(sweep), runs)
    chosen = [run_stage(sweep, 1, size) for size in sweep.ladder[1]]
    assumed = price_stages(sweep.hardware, chosen, runs, capacity())
    speeds = {"w48d2": 1.0, "w64d2": 4.0, "w96d3": 2.0}

    def finish(device):
        for line, stage in zip(assumed, chosen, strict=True):
            folder = StageFolder.create(runs, stage)
            record = RunRecord(
                run_id=stage.id,
                stage="dit",
                n_params=line.n_params,
                device=device,
                engine=EngineSpec(processes=2),
                flops_per_second=2 * speeds[line.size] * capacity().flops_per_gpu,
            )
            write_record(folder.record_path, record)
            folder.finish()

    finish("cpu")
    assert plan(sweep, runs, capacity()).measured_runs == 0
    on_cpu = price_stages(sweep.hardware, chosen, runs, capacity())
    assert [line.hours for line in on_cpu] == [line.hours for line in assumed]
    finish("cuda")
    planned = plan(sweep, runs, capacity())
    assert planned.measured_runs == 3
    for line, before in zip(price_stages(sweep.hardware, chosen, runs, capacity()), assumed, strict=True):
        others = before.hours - before.spent_flops / capacity().flops_per_gpu / 3600
        assert line.hours == pytest.approx(others + (before.hours - others) / 2)  # the median of three
        assert (line.measured, line.done, line.gpus) == (True, True, before.gpus)
    assert not next(stage for stage in planned.stages if stage.kind == "vae").measured


def test_any_stages_can_be_priced(tmp_path):
    """A trial at other rates costs what the run of its size and budget costs; metrics cost what their run makes of
    them, which may be on disk alone; and each has its line, in the order asked for."""
    sweep = load_sweep("demo")
    rates = sweep.replace(optim=sweep.optim.replace(muon_lr=0.5))
    run, trial = run_stage(sweep, 1, "w64d2"), run_stage(rates, 1, "w64d2")
    measures = metrics_stage(sweep, 1, "w64d2")
    complete(shared_list(sweep), tmp_path)
    lines = price_stages(sweep.hardware, [trial, run, trial, measures], tmp_path)
    assert [line.id for line in lines] == [trial.id, run.id, trial.id, measures.id]
    assert lines[0].hours == lines[1].hours
    alone = price_stages(sweep.hardware, [measures], tmp_path)[0]
    assert alone.hours is None
    complete([run], tmp_path)
    assert price_stages(sweep.hardware, [measures], tmp_path)[0].hours == lines[3].hours


def test_what_a_users_folder_holds_is_not_known_before_it_is_opened(tmp_path, capsys):
    from scaling.cli.main import main

    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"hashed, not opened")
    text = json.loads(json.dumps(sweep_of_1000()))
    text |= {"data": {"folder": "videos"}, "ladder": {1: ["w32d2", "w32d3", "w64d2"], 4: ["w32d2", "w32d3", "w64d2"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(text))
    out = tmp_path / "out"
    planned = plan(load_sweep(str(tmp_path / "mine.yaml")), out / "runs")
    assert planned.unknown == ["data", "latents"]
    assert main(["plan", str(tmp_path / "mine.yaml"), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "Not counted, because the videos must be opened to know it: data, latents" in shown
    data = next(stage for stage in planned.stages if stage.kind == "data")
    folder = StageFolder(out / "runs" / data.id)
    write_record(folder.record_path, RunRecord(run_id=data.id, stage="data", shape={"clips": 100}))
    folder.finish()
    latents = next(
        stage for stage in plan(load_sweep(str(tmp_path / "mine.yaml")), out / "runs").stages if stage.kind == "latents"
    )
    assert latents.disk_bytes == 4 * 100 * 5 * 8 * 8 * 8  # numbers of 17 frames of 64 x 64


def test_branches_cost_the_longest_beginning_and_every_decay():
    """C2 + decay * C1 for two budgets of a size: the shorter beginning is shared, the ends are not."""
    separate = load_sweep("demo")
    optim = separate.optim.replace(warmup_steps=20, decay_fraction=0.2)
    branching = separate.replace(branches=True, optim=optim)
    stages = [
        stage
        for stage in [*trunk_stages(branching), *ladder_stages(branching)]
        if stage.slug.endswith("-w64d3")  # at 2x and 4x
    ]
    shared = shared_list(branching)
    lines = price_stages(branching.hardware, [*shared, *stages], None)[len(shared) :]
    runs = {line.compute: line.train_flops for line in lines if line.kind == "dit"}
    assert sum(line.spent_flops for line in lines) == pytest.approx(runs["4x"] + 0.2 * runs["2x"])
    names = [phase.name for phase in plan(branching).phases]
    assert names.index("trunks") < names.index("training")


def test_wall_time_by_hand():
    """Two places: a and b side by side, c after a, d on both places, e outside."""
    jobs = [
        ScheduledJob("a", (), 3.0, 1),
        ScheduledJob("b", ("done before",), 1.0, 1),
        ScheduledJob("c", ("a",), 2.0, 1),
        ScheduledJob("d", ("b",), 1.0, 2),
        ScheduledJob("e", (), 6.5, 0),
    ]
    assert wall_hours(jobs[:2], 2) == 3.0
    assert wall_hours(jobs[:4], 2) == 6.0  # b 0-1, a 0-3, c 3-5, d 5-6
    assert wall_hours(jobs, 2) == 6.5
    assert wall_hours(jobs[:4], 1) == 7.0  # d, which wants more than there is, gets all
    assert wall_hours([], 2) == 0.0


def test_the_array_limit_makes_a_sweep_longer():
    sweep = load_sweep("demo")
    hours = {gpus: plan(sweep, capacity=capacity(gpus=gpus, gpus_per_run=1)).hours for gpus in (1, 2, 64)}
    planned = plan(sweep, capacity=capacity(gpus=1, gpus_per_run=1))
    data = planned.stages[0]
    assert data.kind == "data"
    assert hours[1] == pytest.approx(planned.gpu_hours + data.hours + FIT_HOURS)
    ladder = sum(line.hours for line in planned.runs if line.compute != "32x")
    dearest = max(line.hours for line in planned.runs if line.compute != "32x")
    assert hours[1] - hours[64] >= ladder - dearest
    assert hours[64] < hours[2] < hours[1]


def test_done_is_not_paid_for_again(tmp_path):
    sweep, runs = load_sweep("demo"), tmp_path / "runs"
    before = plan(sweep, runs)
    complete([*shared_list(sweep), *ladder_stages(sweep)], runs)
    after = plan(sweep, runs)
    assert {phase.name: phase.done for phase in after.phases if phase.done} == {
        "data": 1,
        "VAE": 1,
        "latents": 1,
        "reference": 1,
        "training": 9,
    }
    left = [line for line in before.stages if line.kind in ("metrics", "reconstruction") or line.compute == "32x"]
    assert after.price == pytest.approx(sum(line.price for line in left))
    assert before.disk_bytes == after.disk_bytes
    # The law chooses another size than the middle one, and 4x is best at the largest.
    target = run_stage(sweep, 32, "w128d5")
    StageFolder.create(runs, target)
    complete([metrics_stage(sweep, 4, "w96d3")], runs)
    chosen = plan(sweep, runs)
    assert (after.target_size, after.target_begun) == ("w96d4", False)
    assert (chosen.target_size, chosen.target_begun) == ("w128d5", True)
    assert metrics_stage(sweep, 4, "w96d3").id in {stage.id for stage in chosen.stages}


def test_a_thousand_runs_are_planned_and_explained_without_torch_or_pandas(tmp_path):
    (tmp_path / "thousand.yaml").write_text(yaml.safe_dump(sweep_of_1000()))
    command = ["plan", str(tmp_path / "thousand.yaml"), "--cluster", "h100", "--explain", "--json"]
    code = (
        f"import sys, scaling.cli.main\nscaling.cli.main.main({[*command, '--out', str(tmp_path / 'out')]!r})\n"
        "assert not {'torch', 'lightning', 'pandas'} & set(sys.modules)"
    )
    answer = in_fresh_process(code)
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert len(document["runs"]) == 1001
    assert len({run["id"] for run in document["runs"]}) == 1001
    assert [cause["reason"] for cause in document["causes"]] == ["new: nothing like it on disk"]
    assert len(document["causes"][0]["stages"]) == 1001 + 8


def test_trials_are_one_line_that_the_ladder_waits_for(tmp_path):
    """Eight trials, two at a time, of the run of their size and budget; then the ladder is at the rates they found."""
    sweep = load_sweep("demo")
    tuning = TuningSpec(size="w48d2", trials=8, at_a_time=2, muon_lr=(0.01, 0.1))
    tuned, wide = sweep.replace(tuning=tuning), capacity(gpus=64)
    without, planned = plan(sweep, capacity=wide), plan(tuned, capacity=wide)
    phase = next(phase for phase in planned.phases if phase.name == "tuning")
    trial = next(line for line in without.runs if (line.compute, line.size) == ("base", "w48d2"))
    assert (phase.count, phase.after) == (8, ("latents",))
    assert phase.gpu_hours == pytest.approx(8 * trial.gpu_hours)
    assert next(phase for phase in planned.phases if phase.name == "training").after == ("tuning",)
    assert planned.hours == pytest.approx(without.hours + 4 * trial.hours)
    runs = tmp_path / "runs"
    rates = [{"muon_lr": 0.01 + number / 1000} for number in range(8)]
    trials = [
        Trial(run_id=trial_stage(tuned, trial).id, rates=trial, val_loss=1.0 + number)
        for number, trial in enumerate(rates)
    ]
    write_document(tmp_path / "tuning.json", choose_rates(tuned, trials).model_dump(mode="json"))
    after = plan(tuned, runs)
    assert run_stage(with_rates(tuned, rates[0]), 4, "w64d2").id in {line.id for line in after.runs}
    assert {trial.run_id for trial in trials} <= {line.id for line in after.runs}
