"""The imitated squeue, sacct and sinfo."""

import re
import time

from tests.imitation import state as cluster
from tests.imitation.answers import CommandError, not_imitated, options, same, unless_down


def squeue(folder, arguments):
    spelt = {"-h": "--noheader", "-r": "--array", "-o": "--format", "-t": "--states", "-j": "--jobs", "-n": "--name"}
    known = {**spelt, **{name: name for name in (*spelt.values(), "--me")}}
    chosen, positional = options(arguments, known, "squeue")
    if positional or "--noheader" not in chosen or "--array" not in chosen or "--format" not in chosen:
        raise not_imitated("squeue but with --noheader --array --format=")
    if chosen.get("--states", "all") != "all":
        raise not_imitated(f"squeue --states={chosen['--states']}")
    with cluster.opened(folder) as state:
        unless_down(state, "squeue")
        faults = state["faults"]
        pause = faults["hang_seconds"] if faults["squeue_hangs"] else 0.0
        jobs = [job for job in state["jobs"] if not job["forgotten"]]
        if "--jobs" in chosen:
            ids = chosen["--jobs"].split(",")
            jobs = [job for job_id in ids for job in cluster.find(state, job_id)]
            if not jobs and len(ids) == 1:
                raise CommandError("slurm_load_jobs error: Invalid job id specified")
        if "--name" in chosen:
            jobs = [job for job in jobs if job["name"] in chosen["--name"].split(",")]
        if "--states" not in chosen:
            jobs = [job for job in jobs if not cluster.ended(job)]
        if faults["squeue_lies_empty"]:
            jobs = []
        return "".join(_squeue_line(state, job, chosen["--format"]) + "\n" for job in jobs), pause


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
    chosen, positional = options(arguments, known, "sacct")
    needed = {"--noheader", "--parsable2", "--allocations", "--format"}
    if positional or not needed <= chosen.keys():
        raise not_imitated(f"sacct but with {' '.join(sorted(needed))}")
    with cluster.opened(folder) as state:
        if not state["cluster"]["accounting"]:
            raise CommandError("Slurm accounting storage is disabled")
        jobs = [job for job in state["jobs"] if job["start"] or job["index"] is None]  # as in SLURM
        if "--name" in chosen:
            jobs = [job for job in jobs if job["name"] in chosen["--name"].split(",")]
        if "--jobs" in chosen:
            ids = chosen["--jobs"].split(",")
            jobs = [job for job in jobs if {job["array"], job["raw"], cluster.label(job)} & set(ids)]
        fields = [field.partition("%")[0] for field in chosen["--format"].split(",")]
        return "".join("|".join(_sacct_field(job, field) for field in fields) + "\n" for job in jobs)


def _sacct_field(job, field):
    if field == "State":
        return "CANCELLED by 0" if job["state"] == "CANCELLED" else job["state"]
    if field in ("Submit", "Start", "End"):
        start = job[field.lower()] or (job["end"] if field == "Start" else None)  # cancelled before it started
        return (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(start))
            if start
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
    chosen, positional = options(
        arguments, {"-h": "--noheader", "-o": "--format", **same("--noheader", "--format")}, "sinfo"
    )
    if positional or {"--noheader", "--format"} - chosen.keys():
        raise not_imitated("sinfo but with --noheader --format=")
    with cluster.opened(folder) as state:
        unless_down(state, "sinfo")
        settings = state["cluster"]
    lines = ""
    for number, name in enumerate(settings["partitions"]):
        values = {
            "R": name,
            "P": name if number else f"{name}*",
            "a": "up",
            "G": f"gpu:{settings['gpu_type']}:{settings['gpus']}",
            "D": str(len(settings["nodes"])),
            "l": "infinite",
            "c": str(settings["cpus"]),
            "m": str(settings["mb"]),
        }
        lines += re.sub(r"%([A-Za-z])", lambda match, values=values: values[match[1]], chosen["--format"]) + "\n"
    return lines
