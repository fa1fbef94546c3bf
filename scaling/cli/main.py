"""The `scaling` command. Each verb has a module of its own, imported when it is used or asked for help."""

import argparse
import errno
import sys
from collections.abc import Sequence
from importlib import import_module

from scaling.core.errors import StageError, UserError

VERBS = {
    "demo": "the whole story on this machine, small, from nothing",
    "data": "procedural worlds as video files; index a folder of videos; find unreadable files",
    "plan": "the runs of a sweep with N, D, C, time, price and disk; submits nothing",
    "explain": "what became of the stages in an output folder, and why a sweep would do them again",
    "run": "run a sweep here, skipping what is done",
    "submit": "run a sweep on a SLURM cluster, skipping what is done",
    "status": "where every stage of a sweep stands",
    "logs": "what a stage's latest job printed",
    "cancel": "take a sweep's jobs, or some of them, out of the queue",
    "retry": "try failed, lost and cancelled stages again",
    "fit": "a scaling law with intervals, from our runs or any table",
    "forecast": "what a budget buys, foretold from finished runs",
    "estimate": "training, inference and fleet compute, from named assumptions or from finished runs",
    "fvd": "Fréchet video distance of two folders of videos",
    "sample": "a video of any size and length from a trained run, a prompt and a seed",
    "report": "figures, tables and the reviewers' page of an output folder",
}

MENDABLE = {
    errno.ENOSPC: "no space left on the device; free some and run the same command again",
    errno.EDQUOT: "your share of the disk is full; free some and run the same command again",
    errno.EACCES: "permission denied; choose another folder or change its permissions",
    errno.ENOTDIR: "a part of this path is a file; choose another",
    errno.EROFS: "the file system is read-only; choose another folder",
}
"""System errors that are the user's to mend, wherever they strike."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; see {self.prog} --help")


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser with the arguments of one verb, or with the bare names of all of them."""
    parser = _Parser(prog="scaling", description="Measures what more compute buys a video generator.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for name, summary in VERBS.items():
        if name == verb:
            import_module(f"scaling.cli.{name}").add_parser(verbs)
        else:
            verbs.add_parser(name, help=summary, add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb and returns the exit code: 0; 1 where a stage failed; 2 for a user's mistake, one line on stderr;
    130 where interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb = next((word for word in arguments if not word.startswith("-")), None)
    try:
        parsed = build_parser(verb).parse_args(arguments)
        return int(parsed.run(parsed))
    except UserError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    except StageError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        print(f"scaling: {error.filename or 'output'}: {MENDABLE[error.errno]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("scaling: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
