"""`python -m slurm.testbed start|check|stop`: a SLURM cluster on this machine, for tests."""

import argparse
import json
import sys
from pathlib import Path

from scaling.core.errors import UserError
from slurm.testbed.check import check
from slurm.testbed.settings import Settings, default_folder
from slurm.testbed.testbed import Testbed


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb. Prints one message and gives exit code 2 where the user made a mistake."""
    args = _parser().parse_args(arguments)
    settings = Settings(
        folder=args.folder, accounting=args.accounting, user_signal=args.user_signal, grace_seconds=args.grace_seconds
    )
    testbed = Testbed(settings)
    try:
        result = {"start": _start, "check": check, "stop": _stop}[args.verb](testbed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result) if args.json else "\n".join(_lines(args.verb, result)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slurm.testbed",
        description="Starts, checks or stops a real SLURM cluster on this machine: two nodes with eight imaginary "
        "H100s each. Needs root but no systemd, and does not change the system's own SLURM and munge.",
        epilog='examples:\n  eval "$(python -m slurm.testbed start)"\n  python -m slurm.testbed check\n'
        "  python -m slurm.testbed stop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=("start", "check", "stop"))
    parser.add_argument(
        "--folder", type=Path, default=default_folder(), help="folder of the cluster (default: %(default)s)"
    )
    parser.add_argument("--accounting", action="store_true", help="also start a database, so that sacct works")
    parser.add_argument("--user-signal", action="store_true", help="SlurmctldParameters=preempt_send_user_signal")
    parser.add_argument(
        "--grace-seconds", type=int, default=0, metavar="S", help="GraceTime of partition main (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def _start(testbed: Testbed) -> dict[str, object]:
    return {"started": testbed.start(), "folder": str(testbed.folder), **testbed.environment}


def _stop(testbed: Testbed) -> dict[str, object]:
    return {"stopped": testbed.stop(), "folder": str(testbed.folder)}


def _lines(verb: str, result: dict[str, object]) -> list[str]:
    """The result as text. The text of `start` can be evaluated by a shell."""
    if verb == "start":
        state = "started" if result["started"] else "was running"
        return [f"# testbed {state}: {result['folder']}", f"export SLURM_CONF={result['SLURM_CONF']}"]
    if verb == "stop":
        return [f"stopped: {result['folder']}" if result["stopped"] else f"no testbed in {result['folder']}"]
    return [f"{name}: {value}" for name, value in result.items()]


if __name__ == "__main__":
    sys.exit(main())
