"""The testbed as one object: it starts and stops the cluster, and runs SLURM's commands in it.

Not the files that it writes (`slurm.testbed.configuration`), and not the handling of daemons (`slurm.testbed.daemons`).
"""

import json
import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.locks import locked
from scaling.core.store import read_document, write_document
from slurm.testbed.configuration import Ports, free_ports, munge_socket, slurm_conf, write_configuration
from slurm.testbed.daemons import SYSTEM_PATH, daemons, end_all, launch, processes, program, run_step, wait_until
from slurm.testbed.settings import NODES, Settings

PACKAGES = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "munged": "munge",
}
ACCOUNTING_PACKAGES = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
}
"""The Debian package of each program, as above."""
COMMAND_SECONDS = 30
"""Seconds that a SLURM command may take here."""


class Testbed:
    """A SLURM cluster of two nodes on this machine.

    SLURM's commands need the variables of `environment`; without SLURM_CONF they would look for a real cluster.
    """

    __test__ = False  # pytest would collect the class because of its name

    def __init__(self, settings: Settings) -> None:
        self.settings = replace(settings, folder=settings.folder.expanduser().resolve())

    @property
    def folder(self) -> Path:
        """The folder that holds everything."""
        return self.settings.folder

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that SLURM's commands need."""
        return {"SLURM_CONF": str(slurm_conf(self.folder))}

    def start(self) -> bool:
        """Starts the cluster and gives True, or gives False where it already runs with the same settings. Raises
        UserError."""
        _check_machine(self.settings)
        with _exclusive(self.folder):
            if self._is_running():
                return False
            self._clear()
            self.folder.mkdir(parents=True, exist_ok=True)
            write_document(self._marker, {"settings": self._as_document(), "up": False})
            try:
                self._start_daemons()
            except BaseException:
                end_all(self.folder)  # the logs stay until `stop`
                raise
            write_document(self._marker, {"settings": self._as_document(), "up": True})
        return True

    def stop(self) -> bool:
        """Stops the cluster and removes its folder, also after a start that failed half-way. False where there was
        none."""
        with _exclusive(self.folder):
            return self._clear()

    def processes(self) -> Mapping[int, str]:
        """The names of all processes of the cluster, jobs included, by pid."""
        return processes(self.folder)

    def run(self, *command: str, timeout: float = COMMAND_SECONDS) -> "subprocess.CompletedProcess[str]":
        """Runs a SLURM command in the testbed. Raises UserError where it does not end in time."""
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}", **self.environment}
        try:
            return subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                env=environment,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{command[0]} did not answer in {timeout:g} s in the testbed {self.folder}") from None

    @property
    def _marker(self) -> Path:
        return self.folder / "testbed.json"

    def _as_document(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(json.dumps(asdict(self.settings), default=str))
        return document

    def _is_running(self) -> bool:
        if not self._marker.exists():
            return False
        marker = read_document(self._marker)
        expected = Counter(munged=1, slurmctld=1, slurmd=len(NODES))
        if self.settings.accounting:
            expected.update(slurmdbd=1, mariadbd=1)
        return (
            marker == {"settings": self._as_document(), "up": True}
            and expected <= Counter(daemons(self.folder).values())
            and self._idle_or_busy()
        )

    def _clear(self) -> bool:
        """Ends the daemons and removes the folder, if it is a testbed's folder. False where there was no testbed."""
        is_testbed = self._marker.exists() or bool(daemons(self.folder))
        if self.folder.exists() and not is_testbed and any(self.folder.iterdir()):
            raise UserError(f"--folder {self.folder}: holds files that are not a testbed's; choose another folder")
        end_all(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        return is_testbed

    def _start_daemons(self) -> None:
        folder, ports = self.folder, free_ports(self.folder)
        write_configuration(self.settings, ports)
        self._start_munge()
        if self.settings.accounting:
            self._start_accounting(ports)
        launch(folder, "slurmctld", [_path("slurmctld"), "-D"], lambda: _answers(ports.controller))
        for node, port in zip(NODES, ports.nodes, strict=True):
            launch(folder, f"slurmd-{node}", [_path("slurmd"), "-D", "-N", node], partial(_answers, port))
        wait_until(
            self._idle_or_busy,
            f"the nodes are not idle: {self._node_states()}",
            folder / "log" / "slurmctld.out",
            lambda: "slurmctld or slurmd died" if list(daemons(folder).values()).count("slurmd") < len(NODES) else "",
        )

    def _start_munge(self) -> None:
        """Starts a munged of its own, so that the system's munged, if there is one, is neither used nor needed."""
        munge = self.folder / "munge"
        command = [
            *(_path("munged"), "--foreground", f"--socket={munge_socket(self.folder)}", f"--key-file={munge / 'key'}"),
            *(f"--pid-file={munge / 'pid'}", f"--log-file={munge / 'log'}", f"--seed-file={munge / 'seed'}"),
            "--force",  # without it, munged requires a folder that every user can enter
        ]
        try:
            launch(self.folder, "munged", command, lambda: _answers(munge_socket(self.folder)))
        except UserError as error:
            raise UserError(f"munge does not run on this machine, and SLURM needs it: {error}") from None

    def _start_accounting(self, ports: Ports) -> None:
        folder = self.folder
        data, temporary = folder / "database", folder / "tmp"
        temporary.mkdir()
        install = [
            *(_path("mariadb-install-db"), "--no-defaults", "--user=root", f"--datadir={data}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
        ]
        run_step(folder, "mariadb-install-db", install)
        mariadbd = [
            *(_path("mariadbd"), "--no-defaults", "--user=root", f"--datadir={data}", f"--tmpdir={temporary}"),
            *(f"--socket={folder / 'database.socket'}", f"--pid-file={folder / 'mariadbd.pid'}"),
            *("--bind-address=127.0.0.1", f"--port={ports.database}", f"--init-file={folder / 'database.sql'}"),
            *("--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"),
        ]
        launch(folder, "mariadbd", mariadbd, lambda: _answers(ports.database))
        launch(folder, "slurmdbd", [_path("slurmdbd"), "-D"], lambda: _answers(ports.accounting))
        run_step(folder, "sacctmgr", [_path("sacctmgr"), "-i", "add", "cluster", "testbed"])

    def _node_states(self) -> dict[str, str]:
        listing = self.run("sinfo", "--noheader", "--Node", "--format=%N %T")
        return dict(line.split(maxsplit=1) for line in listing.stdout.splitlines())

    def _idle_or_busy(self) -> bool:
        """Whether both nodes accept jobs."""
        states = self._node_states()
        return len(states) == len(NODES) and set(states.values()) <= {"idle", "mixed", "allocated", "completing"}


def _check_machine(settings: Settings) -> None:
    """Raises UserError where a testbed cannot run here."""
    packages = {**PACKAGES, **(ACCOUNTING_PACKAGES if settings.accounting else {})}
    missing = sorted({package for name, package in packages.items() if program(name) is None})
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed; run: apt-get install -y {' '.join(missing)}")
    if os.geteuid() != 0:
        raise UserError("a SLURM testbed makes device files and runs jobs as root; start it as root")


def _path(name: str) -> str:
    path = program(name)
    assert path is not None, name  # checked by _check_machine
    return path


def _answers(address: int | Path) -> bool:
    """Whether a process listens on a port of this machine or on a unix socket."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        probe.settimeout(1)
        try:
            probe.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
        except OSError:
            return False
    return True


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Lets one process at a time start or stop a testbed. The lock is beside the folder, because `stop` removes the
    folder, and it is removed at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    with locked(path):
        try:
            yield
        finally:
            path.unlink()
