"""What sbatch, squeue, sacct, scontrol, scancel, sinfo and srun do in the imitation. See `tests.imitation`."""

import json
import os
import re
import shlex
import sys
import time
import zlib

from tests.imitation import state as cluster

UNREACHABLE = "Unable to contact slurm controller (connect failure)"
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
PREFIX = {"squeue": "slurm_load_jobs error: ", "sinfo": "slurm_load_partitions: "}


class Said(Exception):  # noqa: N818 (an answer)
    """Ends a command: what it prints on stderr, and its exit code."""

    def __init__(self, words, code=1):
        super().__init__(words)
        self.words, self.code = words, code


def not_imitated(what):
    return Said(f"imitation: not imitated: {what}", 99)


def main(name, folder, arguments):
    """Runs one command, notes it in calls.jsonl, and gives its exit code."""
    call = f"{time.time()} {os.getpid()}"
    _note(folder, {"call": call, "time": time.time(), "command": [name, *arguments]})
    try:
        output, pause = COMMANDS[name](folder, arguments), 0.0
        if isinstance(output, tuple):
            output, pause = output
        time.sleep(pause)  # with the state unlocked: a command that hangs holds nobody else up
        sys.stdout.write(output)
        code = 0
    except Said as said:
        print(said.words, file=sys.stderr)
        code = said.code
    _note(folder, {"call": call, "code": code})
    return code


def _note(folder, row):
    with open(os.path.join(folder, "calls.jsonl"), "a") as file:
        file.write(json.dumps(row) + "\n")


def options(arguments, known, prefix):
    """`--key=value` and `--key` -> a dict, and what is left. `known` maps other spellings to names."""
    found, rest = {}, []
    for argument in arguments:
        if not argument.startswith("-"):
            rest.append(argument)
            continue
        key, equals, value = argument.partition("=")
        key = known.get(key, key)
        if key not in known.values():
            raise not_imitated(f"{prefix} {argument}")
        found[key] = value if equals else True
    return found, rest


# sbatch

SBATCH = (
    *("--parsable", "--job-name", "--array", "--dependency", "--time", "--partition", "--gpus-per-node", "--nodes"),
    *("--ntasks-per-node", "--cpus-per-task", "--mem", "--requeue", "--no-requeue", "--output", "--error", "--signal"),
    *("--open-mode", "--account", "--qos", "--constraint", "--exclude", "--reservation", "--wckey"),
)
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")


def sbatch(folder, arguments):
    asked, script, text = _read_script(arguments)
    with cluster.opened(folder) as state:
        _unless_down(state, "sbatch")
        if _draw(state, "sbatch_refuses"):
            raise Said(f"sbatch: error: Batch job submission failed: {UNREACHABLE}")
        number = _submit(state, asked, script)
        _keep(os.path.join(folder, "scripts", number), text)
        lost, hangs = _draw(state, "sbatch_loses_answer"), _draw(state, "sbatch_hangs")
        pause = state["faults"]["hang_seconds"] if hangs else 0.0
    if lost:
        raise Said(TIMED_OUT)
    return (f"{number}\n" if "--parsable" in asked else f"Submitted batch job {number}\n"), pause


def _read_script(arguments):
    """The options of the command line over those of the script, the script's path and text."""
    path = next((argument for argument in arguments if not argument.startswith("-")), None)
    if path is None:
        raise not_imitated("sbatch without a script")
    try:
        with open(path) as file:
            text = file.read()
    except OSError:
        raise Said(f"sbatch: error: Unable to open file {path}") from None
    if not text.startswith("#!"):
        raise Said(
            "sbatch: error: This does not look like a batch script.  The first\n"
            "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
            "sbatch: error: For instance: #!/bin/sh"
        )
    given = []
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            given += shlex.split(line, comments=False)[1:]
        elif line.strip() and not line.startswith("#"):
            break
    asked = {}
    for argument in [*given, *(one for one in arguments if one != path)]:
        key, equals, value = argument.partition("=")
        if key not in SBATCH:
            raise Said(f"sbatch: unrecognized option '{argument}'\nTry \"sbatch --help\" for more information", 255)
        asked[key] = value if equals else True
    return asked, os.path.abspath(path), text


def _submit(state, asked, script):
    """Checks what SLURM checks, in its order, and adds the jobs. Gives their number."""
    has = state["cluster"]
    failed = "sbatch: error: Batch job submission failed: "
    if not TIME.fullmatch(asked.get("--time", "1")):
        raise Said("sbatch: error: Invalid --time specification", 255)
    partition = asked.get("--partition", has["partitions"][0])
    if partition not in has["partitions"]:
        raise Said(f"sbatch: error: invalid partition specified: {partition}\n{failed}Invalid partition name specified")
    listed, _, throttle = asked.get("--array", "").partition("%")
    try:
        indices = cluster.indices(listed) if listed else [None]
        if listed and max(indices) >= has["max_array_size"]:
            raise ValueError(listed)
    except ValueError:
        raise Said(f"{failed}Invalid job array specification") from None
    kind, _, count = asked.get("--gpus-per-node", "0").rpartition(":")
    memory = asked.get("--mem", "0M")
    if not re.fullmatch(r"\d+M", memory):
        raise not_imitated(f"sbatch --mem={memory}")
    if int(memory[:-1]) > has["mb"]:
        raise Said(
            f"sbatch: error: Memory specification can not be satisfied\n{failed}"
            "Requested node configuration is not available"
        )
    if int(count) > has["gpus"] or kind not in ("", has["gpu_type"]):
        raise Said(f"{failed}Requested node configuration is not available")
    kind, _, after = asked.get("--dependency", "afterany:").partition(":")
    if kind != "afterany":
        raise not_imitated(f"sbatch --dependency={kind}")
    if "--constraint" in asked:
        raise Said(f"{failed}Invalid feature specification")
    number = str(state["next"])
    state["next"] += 1
    for index in indices:
        state["jobs"].append(
            {
                "array": number,
                "index": index,
                "raw": number if index is None else None,
                "name": asked.get("--job-name", os.path.basename(script)),
                "partition": partition,
                "state": "PENDING",
                "reason": "None",
                "after": [job for job in after.split(":") if job],
                "throttle": int(throttle or 0),
                "nodes": int(asked.get("--nodes", 1)),
                "gpus": int(count),
                "tasks_per_node": int(asked.get("--ntasks-per-node", 1)),
                "requeue": "--no-requeue" not in asked,
                "restarts": 0,
                "script": script,
                "output": asked.get("--output", "slurm-%j.out" if index is None else "slurm-%A_%a.out"),
                "folder": os.getcwd(),
                "submit": time.time(),
                "start": None,
                "end": None,
                "node_list": [],
                "exit_code": "0:0",
                "forgotten": False,
            }
        )
    return number


def _keep(path, text):
    """SLURM runs the script as it was when it was submitted."""
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o700)


def _draw(state, fault):
    """Whether this one fails: the same for the same seed and the same order of calls."""
    state["draws"] += 1
    seed = f"{state['cluster']['seed']} {state['draws']}".encode()
    return zlib.crc32(seed) / 2**32 < state["faults"][fault]


def _unless_down(state, name):
    if not state["faults"]["down"]:
        return
    if name == "sbatch":
        raise Said(f"sbatch: error: Batch job submission failed: {UNREACHABLE}")
    raise Said(PREFIX[name] + UNREACHABLE)


# squeue, sacct, sinfo


def squeue(folder, arguments):
    spelt = {"-h": "--noheader", "-r": "--array", "-o": "--format", "-t": "--states", "-j": "--jobs", "-n": "--name"}
    known = {**spelt, **{name: name for name in (*spelt.values(), "--me")}}
    asked, rest = options(arguments, known, "squeue")
    if rest or "--noheader" not in asked or "--array" not in asked or "--format" not in asked:
        raise not_imitated("squeue but with --noheader --array --format=")
    if asked.get("--states", "all") != "all":
        raise not_imitated(f"squeue --states={asked['--states']}")
    with cluster.opened(folder) as state:
        _unless_down(state, "squeue")
        faults = state["faults"]
        pause = faults["hang_seconds"] if faults["squeue_hangs"] else 0.0
        jobs = [job for job in state["jobs"] if not job["forgotten"]]
        if "--jobs" in asked:
            ids = asked["--jobs"].split(",")
            jobs = [job for one in ids for job in cluster.find(state, one)]
            if not jobs and len(ids) == 1:
                raise Said("slurm_load_jobs error: Invalid job id specified")
        if "--name" in asked:
            jobs = [job for job in jobs if job["name"] in asked["--name"].split(",")]
        if "--states" not in asked:
            jobs = [job for job in jobs if not cluster.ended(job)]
        if faults["squeue_lies_empty"]:
            jobs = []
        return "".join(_squeue_line(state, job, asked["--format"]) + "\n" for job in jobs), pause


def _squeue_line(state, job, form):
    values = {
        "i": cluster.label(job),
        "A": job["raw"] or job["array"],
        "F": job["array"],
        "K": "N/A" if job["index"] is None else str(job["index"]),
        "T": job["state"],
        "r": cluster.reason(state, job),
        "j": job["name"],
        "M": _duration((job["end"] or time.time()) - job["start"]) if job["start"] else "0:00",
        "P": job["partition"],
        "D": str(job["nodes"]),
        "N": cluster.hosts(job["node_list"]),
    }

    def field(match):
        right, width, letter = match.groups()
        if letter not in values:
            raise not_imitated(f"squeue --format=%{letter}")
        value = values[letter]
        if width:
            value = value[: int(width)]
            value = value.rjust(int(width)) if right else value.ljust(int(width))
        return value

    return re.sub(r"%(\.?)(\d*)([A-Za-z])", field, form)


def _duration(seconds):
    """[days-][hours:]minutes:seconds."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}-{hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def sacct(folder, arguments):
    spelt = {"-n": "--noheader", "-P": "--parsable2", "-X": "--allocations", "-o": "--format", "-j": "--jobs"}
    known = {**spelt, **{name: name for name in (*spelt.values(), "--name")}}
    asked, rest = options(arguments, known, "sacct")
    needed = {"--noheader", "--parsable2", "--allocations", "--format"}
    if rest or not needed <= asked.keys():
        raise not_imitated(f"sacct but with {' '.join(sorted(needed))}")
    with cluster.opened(folder) as state:
        if not state["cluster"]["accounting"]:
            raise Said("Slurm accounting storage is disabled")
        jobs = [job for job in state["jobs"] if job["start"] or job["index"] is None]  # as in SLURM
        if "--name" in asked:
            jobs = [job for job in jobs if job["name"] in asked["--name"].split(",")]
        if "--jobs" in asked:
            ids = asked["--jobs"].split(",")
            jobs = [job for job in jobs if {job["array"], job["raw"], cluster.label(job)} & set(ids)]
        fields = [field.partition("%")[0] for field in asked["--format"].split(",")]
        return "".join("|".join(_sacct_field(job, field) for field in fields) + "\n" for job in jobs)


def _sacct_field(job, field):
    if field == "State":
        return "CANCELLED by 0" if job["state"] == "CANCELLED" else job["state"]
    if field in ("Submit", "Start", "End"):
        when = job[field.lower()] or (job["end"] if field == "Start" else None)  # cancelled before it started
        return (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(when))
            if when
            else "None"
            if cluster.ended(job)
            else "Unknown"
        )
    values = {
        "JobID": cluster.label(job),
        "JobIDRaw": job["raw"],
        "JobName": job["name"],
        "ExitCode": job["exit_code"],
        "NodeList": cluster.hosts(job["node_list"]) or "None assigned",
        "Partition": job["partition"],
    }
    if field not in values:
        raise not_imitated(f"sacct --format={field}")
    return values[field]


def sinfo(folder, arguments):
    asked, rest = options(arguments, {"-h": "--noheader", "-o": "--format", **_same("--noheader", "--format")}, "sinfo")
    if rest or {"--noheader", "--format"} - asked.keys():
        raise not_imitated("sinfo but with --noheader --format=")
    with cluster.opened(folder) as state:
        _unless_down(state, "sinfo")
        has = state["cluster"]
    lines = ""
    for number, name in enumerate(has["partitions"]):
        values = {
            "R": name,
            "P": name if number else f"{name}*",
            "a": "up",
            "G": f"gpu:{has['gpu_type']}:{has['gpus']}",
            "D": str(len(has["nodes"])),
            "l": "infinite",
            "c": str(has["cpus"]),
            "m": str(has["mb"]),
        }
        lines += re.sub(r"%([A-Za-z])", lambda match, values=values: values[match[1]], asked["--format"]) + "\n"
    return lines


def _same(*names):
    return {name: name for name in names}


# scontrol, scancel


def scontrol(folder, arguments):
    words = [argument for argument in arguments if argument not in ("--oneliner", "-o")]
    with cluster.opened(folder) as state:
        down = state["faults"]["down"]
        if words == ["show", "config"]:
            if down:
                raise Said(f"slurm_load_ctl_conf error: {UNREACHABLE}")
            return _show_config(state["cluster"])
        if words[:2] == ["show", "job"] and len(words) == 3:
            if down:
                raise Said(f"slurm_load_jobs error: {UNREACHABLE}")
            return _show_job(state, words[2], len(words) < len(arguments))
        if words[:1] == ["requeue"] and len(words) == 2:
            if down:
                raise Said(f"Unexpected message received for job {words[1]}")
            return _requeue(state, words[1])
    raise not_imitated("scontrol " + " ".join(arguments))


def _show_config(has):
    kind = "slurmdbd" if has["accounting"] else "none"
    values = {
        "AccountingStorageType": f"accounting_storage/{kind}",
        "ClusterName": "testbed",
        "JobRequeue": "1",
        "MaxArraySize": str(has["max_array_size"]),
        "MinJobAge": "300 sec",
        "PreemptMode": "REQUEUE",
    }
    return "".join(f"{key:23} = {value}\n" for key, value in values.items())


def _show_job(state, job_id, oneline):
    jobs = cluster.find(state, job_id)
    if not jobs:
        raise Said(
            f"Job {job_id} not found"
            if "_" in job_id and cluster.find(state, job_id.split("_")[0])
            else "slurm_load_jobs error: Invalid job id specified"
        )
    whole = [job for job in jobs if job["raw"] is None]  # indices that have not started are one record
    records = [(whole[0], cluster.ranges([job["index"] for job in whole]))] if whole else []
    records += [(job, job["index"]) for job in jobs if job["raw"] is not None]
    return "".join(_record(state, job, index, oneline) for job, index in records)


def _record(state, job, index, oneline):
    array = ""
    if index is not None:
        throttle = f"%{job['throttle']}" if job["throttle"] and isinstance(index, str) else ""
        array = f" ArrayJobId={job['array']} ArrayTaskId={index}{throttle}"
    lines = [
        f"JobId={job['raw'] or job['array']}{array} JobName={job['name']}",
        f"JobState={job['state']} Reason={cluster.reason(state, job).replace(' ', '_')}",
        f"Requeue={int(job['requeue'])} Restarts={job['restarts']} BatchFlag=1 Reboot=0 ExitCode={job['exit_code']}",
        f"Partition={job['partition']}",
        f"NodeList={cluster.hosts(job['node_list'])}",
        f"Command={job['script']}",
        f"WorkDir={job['folder']}",
    ]
    return " ".join(lines) + " \n" if oneline else "\n   ".join(lines) + "\n   \n"


def _requeue(state, job_id):
    jobs = cluster.find(state, job_id)
    if not jobs:
        raise Said(f"Invalid job id specified for job {job_id}")
    waiting = [job for job in jobs if job["state"] == "PENDING"]
    for job in jobs:
        if job not in waiting:
            cluster.requeue(job)
    if waiting:
        raise Said("\n".join(f"{cluster.label(job)}: Job is pending execution" for job in waiting))
    return ""


def scancel(folder, arguments):
    asked, ids = options(arguments, {"-n": "--name", **_same("--name", "--me")}, "scancel")
    with cluster.opened(folder) as state:
        if state["faults"]["down"]:
            if asked:
                raise Said(f"slurm_load_jobs error: {UNREACHABLE}")
            raise Said("\n".join(f"scancel: error: Kill job error on job id {one}: {UNREACHABLE}" for one in ids), 8)
        for one in ids:
            if not re.fullmatch(r"\d+(_(\d+|\[[\d,-]+\]))?", one):
                raise Said(f"scancel: error: Invalid job id {one}")
        jobs = [job for one in ids for job in cluster.find(state, one)] if ids else list(state["jobs"])
        if "--name" in asked:
            jobs = [job for job in jobs if job["name"] == asked["--name"]]
        jobs = [job for job in jobs if not cluster.ended(job)]
        # an index that is cancelled by itself before it starts is never heard of again
        gone = [job for job in jobs if job["raw"] is None and any("_" in one for one in ids)]
        cluster.cancel(state, [job for job in jobs if job not in gone])
        state["jobs"] = [job for job in state["jobs"] if job not in gone]
    return ""


COMMANDS = {
    "sbatch": sbatch,
    "squeue": squeue,
    "sacct": sacct,
    "sinfo": sinfo,
    "scontrol": scontrol,
    "scancel": scancel,
}
