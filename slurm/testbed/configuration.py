"""The files that the daemons read: slurm.conf, gres.conf, slurmdbd.conf, and the database's first statements.

Comments say why a setting differs from SLURM's default. A setting that is missing has the default.
"""

import os
import secrets
import socket
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

from scaling.core.errors import UserError
from slurm.testbed.settings import CPUS_PER_NODE, GPUS_PER_NODE, MEMORY_MB, NODES, Settings

LONGEST_SOCKET_PATH = 107
"""Longest path of a unix socket on Linux, in bytes."""


@dataclass(frozen=True)
class Ports:
    """The ports of the daemons, on the loopback interface where a daemon has a setting for it."""

    controller: int
    nodes: tuple[int, ...]
    accounting: int
    database: int


def free_ports(folder: Path) -> Ports:
    """Neighboring free ports, below the range that the kernel uses for outgoing connections. The search starts at a
    port that follows from the folder's name, so that two testbeds rarely try the same ports. Raises UserError."""
    count = len(NODES) + 3
    first = 17000 + zlib.crc32(str(folder).encode()) % 1400 * 10
    for start in [*range(first, 31000, 10), *range(17000, first, 10)]:
        if all(_is_free(port) for port in range(start, start + count)):
            controller, *nodes, accounting, database = range(start, start + count)
            return Ports(controller, tuple(nodes), accounting, database)
    raise UserError("no free ports between 17000 and 31000; stop testbeds that are not in use")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def munge_socket(folder: Path) -> Path:
    """The socket of this testbed's own munged."""
    return folder / "munge" / "socket"


def slurm_conf(folder: Path) -> Path:
    """The path that SLURM_CONF has to name."""
    return folder / "slurm.conf"


def write_configuration(settings: Settings, ports: Ports) -> None:
    """Creates the folders, devices, keys and configuration files. Raises UserError."""
    folder = settings.folder
    if len(str(munge_socket(folder))) > LONGEST_SOCKET_PATH - 10:
        raise UserError(f"--folder {folder}: too long for a unix socket; choose a shorter path")
    for name in ("state", "log", "dev", "munge", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    password = secrets.token_hex(16)
    _write_secret(folder / "munge" / "key", secrets.token_bytes(128))
    slurm_conf(folder).write_text(_slurm_conf(settings, ports))
    (folder / "gres.conf").write_text(_gres_conf(folder))
    for node in NODES:
        for number in range(GPUS_PER_NODE):
            # slurmd accepts only character devices with different names; these are the same device as /dev/null
            os.mknod(_device(folder, node, str(number)), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    if settings.accounting:
        _write_secret(folder / "slurmdbd.conf", _slurmdbd_conf(folder, ports, password).encode())
        _write_secret(folder / "database.sql", _database_sql(password).encode())


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _device(folder: Path, node: str, number: str) -> str:
    return f"{folder}/dev/{node}-gpu{number}"


def _gres_conf(folder: Path) -> str:
    return "".join(
        f"NodeName={node} Name=gpu Type=h100 File={_device(folder, node, f'[0-{GPUS_PER_NODE - 1}]')}\n"
        for node in NODES
    )


def _slurm_conf(settings: Settings, ports: Ports) -> str:
    folder, host = settings.folder, socket.gethostname().split(".")[0]
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS_PER_NODE} "
        f"RealMemory={MEMORY_MB} Gres=gpu:h100:{GPUS_PER_NODE} State=UNKNOWN"
        for node, port in zip(NODES, ports.nodes, strict=True)
    )
    accounting = (
        f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
        f"AccountingStoragePort={ports.accounting}\nAccountingStoragePass={munge_socket(folder)}\n"
        if settings.accounting
        else ""
    )
    return f"""\
ClusterName=testbed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports.controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is requeued waits until its credential has expired; 120 s by default.
AuthInfo=socket={munge_socket(folder)},cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Lets a node claim more CPUs and memory than the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{"SlurmctldParameters=preempt_send_user_signal" if settings.user_signal else ""}
GresTypes=gpu
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=3
MaxArraySize={settings.max_array_size}
{accounting}{nodes}
PartitionName=DEFAULT Nodes={",".join(NODES)} MaxTime=INFINITE State=UP
PartitionName=main Default=YES PriorityTier=1 GraceTime={settings.grace_seconds}
PartitionName=high Default=NO PriorityTier=10 PreemptMode=OFF GraceTime=0
"""


def _slurmdbd_conf(folder: Path, ports: Ports, password: str) -> str:
    return f"""\
AuthType=auth/munge
AuthInfo=socket={munge_socket(folder)}
DbdHost=localhost
DbdPort={ports.accounting}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports.database}
StorageLoc=slurm_acct_db
StorageUser=slurm
StoragePass={password}
"""


def _database_sql(password: str) -> str:
    """The statements that mariadbd runs when it starts."""
    return (
        "CREATE DATABASE slurm_acct_db;\n"
        f"CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';\n"
    )
