"""The imitated SLURM answers as a real one: the same questions to both."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.imitation.handle import Imitation
from tests.imitation.under_test import QUEUE, SECONDS, Imitated, Real, answer


@pytest.fixture(params=["imitation", pytest.param("slurm", marks=pytest.mark.slurm)])
def slurm(request, tmp_path):
    if request.param == "imitation":
        yield Imitated(Imitation(tmp_path / "imitation"), tmp_path)
        return
    testbed = request.getfixturevalue("accounted_testbed")
    yield Real(testbed, tmp_path)
    testbed.run("scancel", f"--name=contract-{tmp_path.name}")
    while testbed.run("squeue", "--noheader", f"--name=contract-{tmp_path.name}").stdout:
        time.sleep(0.1)


@pytest.fixture(params=["imitation", pytest.param("slurm", marks=pytest.mark.slurm)])
def without_accounting(request, tmp_path):
    if request.param == "imitation":
        return Imitation(tmp_path / "imitation", accounting=False)
    return request.getfixturevalue("testbed")


@pytest.fixture(params=["imitation", pytest.param("slurm", marks=[pytest.mark.slurm, pytest.mark.slow])])
def unreachable(request, tmp_path):
    """A SLURM whose controller does not answer."""
    if request.param == "imitation":
        imitation = Imitation(tmp_path / "imitation")
        imitation.set(down=True)
        return imitation.run
    testbed = request.getfixturevalue("testbed")
    for name in ("slurm.conf", "gres.conf"):
        text = (testbed.folder / name).read_text()
        (tmp_path / name).write_text(re.sub(r"(?m)^SlurmctldPort=.*", "SlurmctldPort=9", text))
    return lambda *command: testbed.run("env", f"SLURM_CONF={tmp_path}/slurm.conf", *command)


FAILED = "sbatch: error: Batch job submission failed: "
NOT_AVAILABLE = "Requested node configuration is not available"


@pytest.mark.parametrize(
    ("option", "code", "words"),
    [
        (
            "--partition=nope",
            1,
            f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified",
        ),
        ("--array=0-17", 1, f"{FAILED}Invalid job array specification"),
        ("--array=3-1", 1, f"{FAILED}Invalid job array specification"),
        ("--gpus-per-node=9", 1, f"{FAILED}{NOT_AVAILABLE}"),
        ("--gpus-per-node=a100:1", 1, f"{FAILED}{NOT_AVAILABLE}"),
        ("--mem=20001M", 1, f"sbatch: error: Memory specification can not be satisfied\n{FAILED}{NOT_AVAILABLE}"),
        ("--constraint=nope", 1, f"{FAILED}Invalid feature specification"),
        ("--time=soon", 255, "sbatch: error: Invalid --time specification"),
        ("--foo=1", 255, "sbatch: unrecognized option '--foo=1'\nTry \"sbatch --help\" for more information"),
    ],
)
def test_sbatch_refuses_in_the_same_words(slurm, option, code, words):
    assert answer(slurm.run("sbatch", "--parsable", slurm.script(option))) == (code, "", words + "\n")
    assert answer(slurm.run("sbatch", "--parsable", option, slurm.script())) == (code, "", words + "\n")
    assert slurm.queue() == []


def test_sbatch_refuses_what_is_no_script(slurm):
    path = slurm.folder / "job.sh"
    words = f"sbatch: error: Unable to open file {path}\n"
    assert answer(slurm.run("sbatch", "--parsable", str(path))) == (1, "", words)
    path.write_text("echo hello\n")
    done = slurm.run("sbatch", "--parsable", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sbatch: error: This does not look like a batch script.  The first\n")


def test_an_array_in_the_queue(slurm):
    array = slurm.submit("--array=0-3%2", "--nodes=2", "--time=90")
    slurm.running(f"{array}_0", f"{array}_1")
    waiting = [f"{array}_{i}|PENDING|JobArrayTaskLimit" for i in (2, 3)]
    assert slurm.queue() == [f"{array}_0|RUNNING|None", f"{array}_1|RUNNING|None", *waiting]
    assert slurm.queue("%F_%K|%j|%P|%D") == [f"{array}_{i}|{slurm.name}|main|2" for i in range(4)]
    assert slurm.queue("%.12i|%3T|%N")[:2] == [f"{array + '_0':>12}|RUN|n[0-1]", f"{array + '_1':>12}|RUN|n[0-1]"]
    times = slurm.queue("%K %M")
    assert [line for line in times if re.fullmatch(r"[01] 0:\d\d|[23] 0:00", line)] == times
    slurm.ends(f"{array}_0", 0, "COMPLETED")
    assert f"{array}_0" not in slurm.queue("%i")
    assert f"{array}_0|COMPLETED|None" in slurm.queue("%i|%T|%r", "--states=all")
    slurm.ends(f"{array}_1", 3, "FAILED")
    assert f"{array}_1|FAILED|NonZeroExitCode" in slurm.queue("%i|%T|%r", "--states=all")


def test_a_job_that_waits_for_another(slurm):
    first = slurm.submit()
    second = slurm.submit(f"--dependency=afterany:{first}")
    slurm.running(first)
    assert slurm.queue("%F_%K|%T|%r") == [f"{first}_N/A|RUNNING|None", f"{second}_N/A|PENDING|Dependency"]
    slurm.ends(first, 1, "FAILED")
    slurm.running(second)
    slurm.ends(second, 0, "COMPLETED")


def test_a_job_does_not_wait_for_an_unknown_job(slurm):
    slurm.running(slurm.submit("--dependency=afterany:999999"))


def test_a_job_waits_for_an_index_that_was_requeued(slurm):
    array = slurm.submit("--array=0-1")
    after = slurm.submit(f"--dependency=afterany:{array}")
    slurm.running(f"{array}_0", f"{array}_1")
    assert answer(slurm.run("scontrol", "requeue", f"{array}_0")) == (0, "", "")
    slurm.ends(f"{array}_1", 0, "COMPLETED")
    slurm.wait_for(f"{array}_0|PENDING|BeginTime", "%i|%T|%r")
    assert f"{after}|PENDING|Dependency" in slurm.queue()
    done = slurm.run("scontrol", "show", "job", "--oneliner", f"{array}_0")
    assert "Restarts=1" in done.stdout.split()
    slurm.running(f"{array}_0")
    assert f"{after}|PENDING|Dependency" in slurm.queue()
    slurm.ends(f"{array}_0", 0, "COMPLETED")
    slurm.running(after)


def test_a_job_that_can_never_run_waits(slurm):
    job = slurm.submit("--nodes=3")
    slurm.wait_for(f"{job}|PENDING|PartitionNodeLimit", "%i|%T|%r")


def test_squeue_of_an_unknown_job(slurm):
    assert slurm.queue() == []
    done = slurm.run(*QUEUE, "--jobs=999999", "--format=%i")
    assert answer(done) == (1, "", "slurm_load_jobs error: Invalid job id specified\n")
    job = slurm.submit()
    done = slurm.run(*QUEUE, f"--jobs=999999,{job}", "--format=%i")
    assert answer(done) == (0, f"{job}\n", "")


def test_scontrol_show_job(slurm):
    array = slurm.submit("--array=0-3%2", "--nodes=2")
    slurm.running(f"{array}_0", f"{array}_1")
    records = slurm.run("scontrol", "show", "job", "--oneliner", array).stdout.splitlines()
    fields = [dict(word.split("=", 1) for word in record.split()) for record in records]
    by_index = {fields_of_index["ArrayTaskId"]: fields_of_index for fields_of_index in fields}
    assert by_index.keys() == {"2-3%2", "0", "1"}
    same = {"ArrayJobId": array, "JobName": slurm.name, "Requeue": "1", "Restarts": "0", "ExitCode": "0:0"}
    for fields_of_index in fields:
        assert {
            **fields_of_index,
            **same,
            "Partition": "main",
            "Command": str(slurm.folder / "job.sh"),
        } == fields_of_index
    assert by_index["2-3%2"]["JobId"] == array
    assert [by_index[i]["JobState"] for i in ("0", "1", "2-3%2")] == ["RUNNING", "RUNNING", "PENDING"]
    assert [by_index[i]["NodeList"] for i in ("0", "1", "2-3%2")] == ["n[0-1]", "n[0-1]", ""]
    index = slurm.run("scontrol", "show", "job", "--oneliner", f"{array}_1").stdout.splitlines()
    assert [re.findall(r"(?:JobId|ArrayTaskId)=\S+", line) for line in index] == [
        [f"JobId={by_index['1']['JobId']}", f"ArrayJobId={array}"[5:], "ArrayTaskId=1"]
    ]


def test_scontrol_of_an_unknown_job(slurm):
    words = "slurm_load_jobs error: Invalid job id specified\n"
    assert answer(slurm.run("scontrol", "show", "job", "999999")) == (1, "", words)
    array = slurm.submit("--array=0-1")
    assert slurm.run("scontrol", "show", "job", f"{array}_9").returncode == 1
    words = "Invalid job id specified for job 999999\n"
    assert answer(slurm.run("scontrol", "requeue", "999999")) == (1, "", words)


def test_requeue_revives_even_a_cancelled_job(slurm):
    job = slurm.submit()
    slurm.running(job)
    assert answer(slurm.run("scancel", job)) == (0, "", "")
    slurm.wait_for(f"{job}|CANCELLED")
    assert answer(slurm.run("scontrol", "requeue", job)) == (0, "", "")
    slurm.wait_for(f"{job}|PENDING|BeginTime", "%i|%T|%r")
    assert slurm.run("scontrol", "requeue", job).returncode == 1, "one that waits cannot be requeued"


def test_scancel(slurm):
    array, other = slurm.submit("--array=0-5%1"), slurm.submit()
    slurm.running(f"{array}_0")
    assert answer(slurm.run("scancel", f"{array}_5", f"{array}_[3-4]", "999999", f"{array}_9")) == (0, "", "")
    assert [line for line in slurm.queue("%i", "--states=all") if line != other] == [f"{array}_{i}" for i in range(3)]
    assert answer(slurm.run("scancel", "seven")) == (1, "", "scancel: error: Invalid job id seven\n")
    assert answer(slurm.run("scancel", f"--name={slurm.name}")) == (0, "", "")
    slurm.wait_for(f"{array}_0|CANCELLED")
    assert slurm.queue() == []  # SLURM lists the cancelled indices, or the array for them, as it pleases


def test_sacct(slurm):
    array, job = slurm.submit("--array=0-2%1", "--nodes=2"), slurm.submit()
    slurm.running(f"{array}_0", job)
    raw = slurm.raw(f"{array}_0")
    slurm.ends(f"{array}_0", 0, "COMPLETED")
    slurm.running(f"{array}_1")
    slurm.ends(f"{array}_1", 3, "FAILED")
    slurm.run("scancel", job)
    slurm.wait_for(f"{job}|CANCELLED")
    cancelled = slurm.submit("--nodes=3")
    slurm.wait_for(f"{cancelled}|PENDING|PartitionNodeLimit", "%i|%T|%r")
    slurm.run("scancel", cancelled, array)
    slurm.wait_for(f"{array}_2|CANCELLED")

    def ask(*options):
        done = slurm.run("sacct", "--noheader", "--parsable2", "--allocations", *options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    deadline = time.monotonic() + SECONDS  # the database has it some seconds later
    last = {f"{array}_0|COMPLETED", f"{array}_1|FAILED", f"{job}|CANCELLED by 0"}
    while not last <= set(ask(f"--name={slurm.name}", "--format=JobID,State")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ended = [f"{array}_0|{raw}|{slurm.name}|COMPLETED|0:0|n[0-1]", f"{array}_1"]
    lines = ask(f"--jobs={array}", "--format=JobID,JobIDRaw,JobName%40,State,ExitCode,NodeList")
    assert [line for line in lines if line.startswith(f"{array}_0|")] == ended[:1]
    assert [line for line in lines if line.startswith(f"{array}_1|")] == [
        line for line in lines if re.fullmatch(rf"{array}_1\|\d+\|{slurm.name}\|FAILED\|3:0\|n\[0-1\]", line)
    ]
    lines = ask(f"--jobs={job},{cancelled}", "--format=JobID,State,NodeList,Start")
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
    assert re.fullmatch(rf"{job}\|CANCELLED by 0\|n0\|{when}", lines[0])
    assert re.fullmatch(rf"{cancelled}\|CANCELLED by 0\|None assigned\|{when}", lines[1])
    assert ask("--jobs=999999", "--format=JobID,State") == []


def test_sacct_without_accounting(without_accounting):
    done = without_accounting.run("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID")
    assert answer(done) == (1, "", "Slurm accounting storage is disabled\n")
    shown = without_accounting.run("scontrol", "show", "config").stdout
    assert "\nAccountingStorageType   = accounting_storage/none\n" in "\n" + shown


def test_the_configuration_of_the_cluster(slurm):
    lines = slurm.run("scontrol", "show", "config").stdout.splitlines()
    shown = {key.strip(): value.strip() for key, value in (line.split("=", 1) for line in lines if "=" in line)}
    assert {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "JobRequeue": "1",
        "MaxArraySize": "17",
        "MinJobAge": "300 sec",
        "PreemptMode": "REQUEUE",
    }.items() <= shown.items()
    assert f"{'MaxArraySize':23} = 17" in lines
    done = slurm.run("sinfo", "--noheader", "--format=%R|%G|%D|%l|%c|%m|%P|%a")
    both = "gpu:h100:8|2|infinite|16|20000"
    assert answer(done) == (0, f"main|{both}|main*|up\nhigh|{both}|high|up\n", "")


def test_a_requeued_index_has_its_number_of_restarts(slurm):
    text = f"echo ${{SLURM_RESTART_COUNT:-0}} >>{slurm.folder}/counts\n[ ${{SLURM_RESTART_COUNT:-0}} -ge 1 ] ||"
    text += " scontrol requeue ${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    array = slurm.submit("--array=4", text=text)
    if not slurm.is_real:
        while slurm.slurm.run_next():
            pass
    slurm.wait_for(f"{array}_4|COMPLETED")
    assert (slurm.folder / "counts").read_text().split() == ["0", "1"]


def test_every_command_says_that_the_controller_does_not_answer(unreachable, tmp_path):
    words = "Unable to contact slurm controller (connect failure)\n"
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    expected = {
        (*QUEUE, "--format=%i"): (1, "", f"slurm_load_jobs error: {words}"),
        ("sbatch", "--parsable", str(script)): (1, "", f"{FAILED}{words}"),
        ("scontrol", "show", "config"): (1, "", f"slurm_load_ctl_conf error: {words}"),
        ("scontrol", "show", "job", "1"): (1, "", f"slurm_load_jobs error: {words}"),
        ("scontrol", "requeue", "1"): (1, "", "Unexpected message received for job 1\n"),
        ("sinfo", "--noheader", "--format=%R"): (1, "", f"slurm_load_partitions: {words}"),
        ("scancel", "1"): (8, "", f"scancel: error: Kill job error on job id 1: {words}"),
        ("scancel", "--name=x"): (1, "", f"slurm_load_jobs error: {words}"),
    }
    with ThreadPoolExecutor(len(expected)) as pool:  # each tries for ten seconds
        answers = pool.map(lambda command: answer(unreachable(*command)), expected)
    assert dict(zip(expected, answers, strict=True)) == expected
