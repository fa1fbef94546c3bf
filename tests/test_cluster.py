"""Sweeps on a real SLURM, with and without accounting: preempted, on many nodes, in many arrays, on nodes that fail."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from scaling.cli.main import main
from scaling.core.attempts import attempts
from scaling.core.records import read_record, read_records
from scaling.core.specs import EngineSpec, parse_spec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder
from slurm.arrays import StageJob
from slurm.cluster import load_cluster
from slurm.scheduler import Scheduler
from slurm.submissions import Submissions
from slurm.submit import Launcher
from sweeps.spec import SweepSpec
from tests.sweep_stages import run_stage

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", params=["testbed", "accounted_testbed"])
def slurm(request):
    """A real cluster, which commands find by SLURM_CONF. All work has one thread, so that bits can be compared."""
    testbed = request.getfixturevalue(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for key, value in testbed.environment.items():
            patch.setenv(key, value)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield testbed


@pytest.fixture(autouse=True)
def empty_queue(slurm):
    """Leaves no job for the next test."""
    yield
    command("scancel", f"--user={os.environ.get('USER', 'root')}")
    wait_for(lambda: not command("squeue", "--noheader").strip(), 60)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The tiny sweep, with runs long enough to be interrupted."""
    document = yaml.safe_load((ROOT / "sweeps" / "shipped" / "tiny.yaml").read_text())
    document |= {"name": "sweep", "base_flops": 1.0e10}
    document["hardware"] |= {"target_threads": 1, "engine": {"precision": "fp32"}}  # the same here and on the cluster
    path = tmp_path_factory.mktemp("sweep") / "sweep.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def undisturbed(sweep, tmp_path_factory):
    """The sweep on this machine, without a scheduler."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    subprocess.run([sys.executable, "-m", "scaling.cli.main", "run", sweep, "--out", out], check=True)
    return out


@pytest.fixture
def out(undisturbed, tmp_path):
    """A copy of its runs, to continue from."""
    shutil.copytree(undisturbed / "runs", tmp_path / "out" / "runs")
    return tmp_path / "out"


def numbers(out):
    """The fields of the records that must be the same however often a run was interrupted: all but times and engine."""
    ignored = {"wall_seconds", "flops_per_second", "engine"}
    return {record.run_id: record.model_dump(exclude=ignored) for record in read_records(out / "runs")}


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, subprocess.run(["squeue"], capture_output=True, text=True).stdout
        time.sleep(0.3)
    return value


def stages_of(out, capsys):
    capsys.readouterr()
    assert main(["status", str(out), "--json"]) == 0
    return {stage["id"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}


def write_cluster(folder, **changes):
    path = folder / "cluster.yaml"
    document = yaml.safe_load((ROOT / "slurm" / "clusters" / "testbed.yaml").read_text())
    path.write_text(yaml.safe_dump(document | changes))
    return path


def command(*words):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def occupy(*options):
    """Starts a job that sleeps in the partition with priority; gives its number."""
    options = ("--partition=high", "--output=/dev/null", *options)
    return command("sbatch", "--parsable", *options).strip()


def test_a_sweep_preempted_on_both_nodes_ends_with_the_same_bits(slurm, sweep, undisturbed, tmp_path, capsys):
    out = tmp_path / "out"
    half = occupy(
        "--nodelist=n0", "--gpus-per-node=5", "--wrap=sleep 600"
    )  # so that three of six runs have to go to n1
    assert main(["submit", str(sweep), "--cluster", "testbed", "--out", str(out)]) == 0

    def training():
        """Stages that have a checkpoint and are not complete, by node."""
        lines = command("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%F_%K %N").splitlines()
        node_of = dict(line.split() for line in lines)
        stages = {
            submission.job_id(stage): stage
            for submission in Submissions(out).all()
            if submission.array
            for stage in submission.stages
        }
        running_jobs = {}
        for element, stage in stages.items():
            folder = out / "runs" / stage
            begun = stage.startswith("dit") and list(folder.glob("checkpoints/step-*"))
            if element in node_of and begun and not (folder / "COMPLETE").exists():
                running_jobs.setdefault(node_of[element], []).append(StageFolder(folder))
        return running_jobs if running_jobs.keys() == {"n0", "n1"} else None

    before = wait_for(training)
    command("scancel", half)
    occupy("--nodes=2", "--gpus-per-node=8", "--wrap=sleep 5")
    wait_for(lambda: "preempted" in {stage["state"] for stage in stages_of(out, capsys).values()}, 60)
    wait_for(lambda: (out / "report" / "index.html").exists(), 600)
    assert numbers(out) == numbers(undisturbed)
    for node, folders in before.items():
        interrupted = [tries for tries in map(attempts, folders) if len(tries) > 1]
        assert interrupted, node
        for tries in interrupted:
            assert (tries[0].end, tries[-1].end) == ("stopped", "finished")
            assert tries[1].start_update == tries[0].done > 0
    assert {stage["state"] for stage in stages_of(out, capsys).values()} == {"done"}


def make_stage_of(out, sweep, *, seed=0, **changes):
    """A run of the sweep with other fields."""
    spec = parse_spec(SweepSpec, yaml.safe_load(sweep.read_text()), "sweep")
    stage = run_stage(spec, 1, "w32d2")
    fields = stage.fields_as(DiTFields).replace(seed=seed, **changes)
    return Stage(slug=stage.slug, fields=fields, parents=stage.parents, sweep="sweep", engine=EngineSpec())


def launcher(out, **changes):
    cluster = load_cluster("testbed").replace(**changes)
    return Launcher(out, cluster, Scheduler(out / "slurm"))


def test_sixteen_tasks_on_two_nodes_are_one_run_and_survive_a_preemption(slurm, sweep, undisturbed, out):
    spec = parse_spec(SweepSpec, yaml.safe_load(sweep.read_text()), "sweep")
    stage = make_stage_of(out, sweep, optim=spec.optim.replace(batch_tokens=2560), flop_budget=3e10)
    done = launcher(out).submit("sweep", [StageJob(stage, gpus=16, hours=0.1, gpu_hours=1.6)], print)
    folder = StageFolder(out / "runs" / stage.id)
    (array,) = [submission for submission in done.submitted if submission.runs_stages]
    assert array.gpus == 16
    wait_for(lambda: any(attempt.done for attempt in attempts(folder)))
    occupy("--nodelist=n1", "--gpus-per-node=1", "--wrap=sleep 3")
    wait_for(lambda: folder.complete, 600)
    first, *_, last = attempts(folder)
    assert (first.end, first.gpus) == ("stopped", 16)
    assert last.start_update == first.done
    record = read_record(folder.record_path)
    assert record.engine.processes == 16
    alone = make_stage_of(out, sweep, optim=spec.optim.replace(batch_tokens=2560), flop_budget=3e10)
    single = StageFolder.create(out / "single", alone)
    for path in undisturbed.glob("runs/[dvl]a*"):  # data, VAE, latents
        shutil.copytree(path, out / "single" / path.name)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from scaling.stages.run import run_stage; run_stage(sys.argv[1])",
            single.path,
        ],
        check=True,
    )
    expected = read_record(single.record_path)
    assert (record.steps, record.num_tokens) == (expected.steps, expected.num_tokens)
    assert record.value("val_loss") == pytest.approx(expected.value("val_loss"), rel=2e-3)


def test_sixty_runs_go_through_arrays_of_seventeen(slurm, sweep, out, capsys):
    stages = [make_stage_of(out, sweep, seed=seed, flop_budget=1e9) for seed in range(1, 61)]
    done = launcher(out).submit("sweep", [StageJob(stage, 1, 0.05, 0.05) for stage in stages], print)
    arrays = [submission for submission in done.submitted if submission.runs_stages]
    assert [len(submission.stages) for submission in arrays] == [17, 17, 17, 9]
    assert launcher(out).submit("sweep", [StageJob(stage, 1, 0.05, 0.05) for stage in stages], print).submitted == []
    wait_for(lambda: all((out / "runs" / stage.id / "COMPLETE").exists() for stage in stages), 900)
    assert [len(attempts(StageFolder(out / "runs" / stage.id))) for stage in stages] == [1] * 60
    states = stages_of(out, capsys)
    assert {states[stage.id]["state"] for stage in stages} == {"done"}


def test_a_node_that_fails_and_a_job_cancelled_by_an_administrator_lose_nothing(slurm, sweep, out, capsys):
    stages = [make_stage_of(out, sweep, seed=seed, flop_budget=2e10) for seed in (101, 102)]
    jobs = [StageJob(stage, 8, 0.05, 0.4) for stage in stages]
    half = occupy("--nodelist=n0", "--gpus-per-node=8", "--wrap=sleep 600")
    done = launcher(out, max_nodes=1).submit("sweep", [replace(job, gpus=1) for job in jobs], print)
    first, second = (StageFolder(out / "runs" / stage.id) for stage in stages)
    wait_for(lambda: any(attempt.done for attempt in attempts(first)))
    subprocess.run(["scontrol", "update", "nodename=n1", "state=down", "reason=test"], check=True)
    command("scancel", half)
    wait_for(lambda: len(attempts(first)) > 1)
    subprocess.run(["scontrol", "update", "nodename=n1", "state=resume"], check=False)  # where it is not back by itself
    wait_for(lambda: first.complete and second.complete, 300)
    assert done.submitted
    # cancelled before it starts, so that nothing in the job can react
    third = make_stage_of(out, sweep, seed=103, flop_budget=2e10)
    half = occupy("--nodes=2", "--gpus-per-node=8", "--wrap=sleep 600")
    wait_for(lambda: command("squeue", "--noheader", f"--jobs={half}", "--states=RUNNING").strip())
    done = launcher(out).submit("sweep", [StageJob(third, 1, 0.05, 0.05)], print)
    (submission,) = [each for each in done.submitted if each.runs_stages]
    command("scancel", submission.array)
    command("scancel", half)
    assert not attempts(StageFolder(out / "runs" / third.id))
    assert submission.array in [known.array for known in Submissions(out).all()]
    jobs = [StageJob(third, 1, 0.05, 0.05)]
    wait_for(
        lambda: [
            submission for submission in launcher(out).submit("sweep", jobs, print).submitted if submission.runs_stages
        ]
    )
    wait_for(lambda: (out / "runs" / third.id / "COMPLETE").exists())


def test_a_job_near_its_time_limit_saves_and_continues_in_another(slurm, sweep, out):
    stages = [make_stage_of(out, sweep, seed=seed, flop_budget=4e10) for seed in (104, 105, 106)]
    *others, folder = (StageFolder(out / "runs" / stage.id) for stage in stages)
    done = launcher(out).submit("sweep", [StageJob(stage, 1, 0.05, 0.05) for stage in stages], print)
    (submission,) = [each for each in done.submitted if each.runs_stages]
    wait_for(lambda: any(attempt.done for attempt in attempts(folder)))
    command("scancel", "--signal=USR2", f"{submission.array}_2")  # as --signal does some time before the limit
    wait_for(lambda: all(each.complete for each in (folder, *others)))
    first, last = attempts(folder)
    assert (first.end, last.end, last.start_update) == ("stopped", "finished", first.done)
    # The last index of an array has the number of the array: requeued by that number, all jobs would start again.
    assert [len(attempts(each)) for each in others] == [1, 1]


def test_what_the_user_cancels_stays_cancelled_until_it_is_retried(slurm, sweep, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["submit", str(sweep), "--cluster", "testbed", "--out", str(out)]) == 0
    wait_for(lambda: list(out.glob("runs/vae-*/checkpoints/step-*")))
    assert main(["cancel", str(out)]) == 0
    wait_for(lambda: not command("squeue", "--noheader").strip(), 60)
    capsys.readouterr()
    states = {stage["state"] for stage in stages_of(out, capsys).values()}
    assert "cancelled" in states
    assert states <= {"cancelled", "done"}
    assert main(["retry", str(out)]) == 0
    wait_for(lambda: (out / "report" / "index.html").exists(), 600)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"partition": "mian"}, "partition: there is no 'mian'; did you mean 'main'?"),
        ({"gpus_per_node": 9, "max_gpus": 18}, "gpus_per_node is 9, but a node of partition main has 8"),
        ({"max_nodes": 3, "max_gpus": 24}, "max_nodes is 3, but partition main has 2 such nodes"),
        ({"gpu_type": "a100"}, "a node of partition main has 0 of type a100"),
        ({"cpus_per_gpu": 4}, "32 a node, but a node of partition main has 16"),
        ({"partiton": "main"}, "partiton"),
    ],
)
def test_a_mistake_in_the_cluster_file_is_one_line_and_nothing_is_submitted(
    slurm, sweep, tmp_path, capsys, changes, words
):
    path = write_cluster(tmp_path, **changes)
    code = main(["submit", str(sweep), "--cluster", str(path), "--out", str(tmp_path / "out")])
    stderr = capsys.readouterr().err
    assert code == 2
    assert words.lower() in stderr.lower()
    assert len(stderr.strip().splitlines()) == 1
    assert not command("squeue", "--noheader").strip()
    assert not list(tmp_path.glob("out/slurm/submissions/*"))


def test_a_folder_that_cannot_be_written_is_one_line(slurm, sweep, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["submit", str(sweep), "--cluster", "testbed", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be" in capsys.readouterr().err
    assert os.environ["SLURM_CONF"]
