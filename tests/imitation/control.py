"""The imitated scontrol and scancel."""

import re

from tests.imitation import state as cluster
from tests.imitation.answers import UNREACHABLE, CommandError, not_imitated, options, same


def scontrol(folder, arguments):
    words = [argument for argument in arguments if argument not in ("--oneliner", "-o")]
    with cluster.opened(folder) as state:
        down = state["faults"]["down"]
        if words == ["show", "config"]:
            if down:
                raise CommandError(f"slurm_load_ctl_conf error: {UNREACHABLE}")
            return _show_config(state["cluster"])
        if words[:2] == ["show", "job"] and len(words) == 3:
            if down:
                raise CommandError(f"slurm_load_jobs error: {UNREACHABLE}")
            return _show_job(state, words[2], len(words) < len(arguments))
        if words[:1] == ["requeue"] and len(words) == 2:
            if down:
                raise CommandError(f"Unexpected message received for job {words[1]}")
            return _requeue(state, words[1])
    raise not_imitated("scontrol " + " ".join(arguments))


def _show_config(settings):
    kind = "slurmdbd" if settings["accounting"] else "none"
    values = {
        "AccountingStorageType": f"accounting_storage/{kind}",
        "ClusterName": "testbed",
        "JobRequeue": "1",
        "MaxArraySize": str(settings["max_array_size"]),
        "MinJobAge": "300 sec",
        "PreemptMode": "REQUEUE",
    }
    return "".join(f"{key:23} = {value}\n" for key, value in values.items())


def _show_job(state, job_id, oneline):
    jobs = cluster.find(state, job_id)
    if not jobs:
        raise CommandError(
            f"Job {job_id} not found"
            if "_" in job_id and cluster.find(state, job_id.split("_")[0])
            else "slurm_load_jobs error: Invalid job id specified"
        )
    pending = [job for job in jobs if job["raw"] is None]  # indices that have not started are one record
    records = [(pending[0], cluster.ranges([job["index"] for job in pending]))] if pending else []
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
        raise CommandError(f"Invalid job id specified for job {job_id}")
    waiting = [job for job in jobs if job["state"] == "PENDING"]
    for job in jobs:
        if job not in waiting:
            cluster.requeue(job)
    if waiting:
        raise CommandError("\n".join(f"{cluster.label(job)}: Job is pending execution" for job in waiting))
    return ""


def scancel(folder, arguments):
    chosen, ids = options(arguments, {"-n": "--name", **same("--name", "--me")}, "scancel")
    with cluster.opened(folder) as state:
        if state["faults"]["down"]:
            if chosen:
                raise CommandError(f"slurm_load_jobs error: {UNREACHABLE}")
            raise CommandError(
                "\n".join(f"scancel: error: Kill job error on job id {job_id}: {UNREACHABLE}" for job_id in ids), 8
            )
        for job_id in ids:
            if not re.fullmatch(r"\d+(_(\d+|\[[\d,-]+\]))?", job_id):
                raise CommandError(f"scancel: error: Invalid job id {job_id}")
        jobs = [job for job_id in ids for job in cluster.find(state, job_id)] if ids else list(state["jobs"])
        if "--name" in chosen:
            jobs = [job for job in jobs if job["name"] == chosen["--name"]]
        jobs = [job for job in jobs if not cluster.ended(job)]
        # SLURM forgets an index that is cancelled by itself before it starts
        forgotten = [job for job in jobs if job["raw"] is None and any("_" in job_id for job_id in ids)]
        cluster.cancel(state, [job for job in jobs if job not in forgotten])
        state["jobs"] = [job for job in state["jobs"] if job not in forgotten]
    return ""
