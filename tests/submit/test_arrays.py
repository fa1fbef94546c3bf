"""How stages are divided into job arrays, and what is submitted again."""

import pickle
from pathlib import Path

from scaling.core.stage_folder import StageFolder
from slurm.worker import work
from tests.submit.launching import expected, jobs_of, launcher, queued_stages


def test_arrays_are_cut_ordered_and_throttled(slurm, out, clock):
    jobs = jobs_of(60, gpus=2)
    launcher(out, clock).submit("s", jobs, print)
    assert queued_stages(slurm, out) == expected(jobs, out)
    arrays = {}
    for job in slurm.jobs():
        arrays.setdefault(job.array, []).append(job)
    patrol, first, *middle, last = arrays.values()
    assert [len(array) for array in middle] == [17, 17, 17, 9]
    assert all(array[0].after == (first[0].array,) for array in middle)
    assert patrol[0].after == ()
    assert "#SBATCH --begin=now+60minutes" in script(patrol)
    assert set(last[0].after) == {first[0].array, *(array[0].array for array in middle)}
    throttles = [
        int(line.split("%")[1]) for array in middle for line in script(array).splitlines() if "--array" in line
    ]
    assert sum(throttles) * 2 == 16  # max_gpus


def script(array):
    return Path(array[0].script).read_text()


def test_more_arrays_than_jobs_may_run_take_turns(slurm, out, clock):
    """Four jobs of eight GPUs each on sixteen: two lanes."""
    jobs = jobs_of(60, gpus=8)
    launcher(out, clock, max_array_size=15).submit("s", jobs, print)
    arrays = {}
    for job in slurm.jobs():
        arrays.setdefault(job.array, []).append(job)
    _, first, one, two, three, four, _ = arrays.values()
    assert all("--array=0-14%1" in script(array) for array in (one, two, three, four))
    assert set(three[0].after) == {first[0].array, one[0].array}
    assert set(four[0].after) == {first[0].array, two[0].array}


def test_submitted_again_nothing_is_submitted(slurm, out, clock):
    jobs = jobs_of(20)
    launcher(out, clock).submit("s", jobs, print)
    again = launcher(out, clock).submit("s", jobs, print)
    assert again.submitted == []
    assert len(again.in_queue) == 21
    assert len(slurm.calls("sbatch")) == 5


def test_what_left_the_queue_unfinished_is_submitted_again_and_what_is_complete_is_not(slurm, out, clock):
    jobs = jobs_of(3)
    launcher(out, clock).submit("s", jobs, print)
    slurm.start("2_0")
    slurm.finish("2_0")
    StageFolder(out / "runs" / jobs[0].stage.id).finish()
    for index in range(3):
        slurm.start(f"3_{index}")
    slurm.finish("3_0")
    StageFolder(out / "runs" / jobs[1].stage.id).finish()
    slurm.fail("3_1")
    clock.sleep(60)
    again = launcher(out, clock).submit("s", jobs, print)
    assert [submission.stages for submission in again.submitted if submission.runs_stages] == [(jobs[2].stage.id,)]


def test_what_submitit_pickles_is_a_function_and_a_path(slurm, out, clock):
    jobs = jobs_of(1)
    launcher(out, clock).submit("s", jobs, print)
    folder = Path(slurm.jobs()[2].script).parent
    submitted = pickle.loads((folder / "0.pkl").read_bytes())
    assert (submitted.function, submitted.args, submitted.kwargs) == (work, (str(out / "runs" / jobs[1].stage.id),), {})
    assert (folder / "0.pkl").stat().st_size < 500
    assert folder.stat().st_mode & 0o077 == 0


def test_a_dry_run_submits_and_writes_nothing(slurm, out, clock):
    done = launcher(out, clock).submit("s", jobs_of(20), print, dry_run=True)
    assert len(done.scripts) == 5
    assert "#SBATCH --array=0-16%" in done.scripts[2]
    assert "#SBATCH --gpus-per-node=h100:1" in done.scripts[2]
    assert not slurm.calls("sbatch")
    assert not out.exists()
