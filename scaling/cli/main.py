"""The `scaling` command: its verbs, and what becomes of an error. The module of a verb is imported when that verb is
used or asked for help."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaling.core.errors import StageError, UserError

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

DESCRIPTION = "Measures what more compute buys a video generator."

VERBS = {
    "demo": "run the shipped sweep 'demo' on this machine: data, training, forecast, report",
    "data": "make procedural worlds as video files; index a folder of videos; find unreadable files",
    "plan": "list the runs of a sweep with N, D, C, time, price and disk; submits nothing",
    "explain": "say what became of the stages in an output folder, and why a sweep would run them again",
    "run": "run a sweep on this machine, skipping what is done",
    "submit": "run a sweep on a SLURM cluster, skipping what is done",
    "status": "list the state of every stage of a sweep",
    "logs": "print the log of a stage's latest job",
    "cancel": "cancel the jobs of a sweep, or some of them",
    "retry": "submit failed, lost and cancelled stages again",
    "fit": "fit a scaling law with intervals, to our runs or to any table",
    "forecast": "predict what a budget buys and what a target costs, from finished runs",
    "estimate": "estimate training, inference and fleet compute, from named assumptions or from finished runs",
    "fvd": "measure the Fréchet video distance of two folders of videos",
    "sample": "sample a video of any size and length from a trained run, a prompt and a seed",
    "report": "write the figures, tables and reviewers' page of an output folder",
}
"""Each verb is a module beside this one, whose docstring of `run` is its help. The summaries are in this table so that
listing the verbs imports none of them."""

# Pydantic would read the metadata of every installed package to look for plugins, of which none is used here.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

GENERAL_OPTIONS = {
    "--help": "print this page; 'scaling VERB --help' prints the options of a verb",
    "--version": "print the version",
    "--install-completion": "install completion of verbs and options for your shell",
}

SYSTEM_ERRORS = {
    errno.ENOSPC: "no space left on the device; free some and run the same command again",
    errno.EDQUOT: "your share of the disk is full; free some and run the same command again",
    errno.EACCES: "permission denied; choose another folder or change its permissions",
    errno.ENOTDIR: "a part of this path is a file; choose another",
    errno.EROFS: "the file system is read-only; choose another folder",
}
"""System errors that the user can resolve, and how."""


def overview() -> str:
    """The page of `scaling --help`. The library is not used for it, because importing it takes longer than all the
    rest."""
    lines = ["Usage: scaling VERB ...", "", DESCRIPTION]
    for title, texts in {"Verbs": VERBS, "Options": GENERAL_OPTIONS}.items():
        lines += ["", f"{title}:", *(f"  {name:22}{text}" for name, text in texts.items())]
    return "\n".join(lines)


def build_app() -> "App":
    """The command line as the library knows it."""
    from cyclopts import App, Parameter

    app = App(
        name="scaling",
        help=DESCRIPTION,
        version=_version,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for verb in VERBS:
        target = "app" if verb == "data" else "run"  # `data` has verbs of its own
        app.command(f"scaling.cli.{verb}:{target}", name=verb)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb and returns the exit code: 0; 1 where a stage failed; 2 for a user's mistake, with one line on
    stderr; 130 where interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not sys.warnoptions:  # of numpy: what its warnings mean for a result, the result says itself
        warnings.simplefilter("ignore", RuntimeWarning)
    try:
        if arguments[:1] in (["--help"], ["-h"]):
            print(overview())
            return 0
        return _run(arguments)
    except UserError as error:
        return _fail(str(error), 2)
    except StageError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno not in SYSTEM_ERRORS:
            raise
        return _fail(f"{error.filename or 'output'}: {SYSTEM_ERRORS[error.errno]}", 2)
    except KeyboardInterrupt:
        return _fail("interrupted; run the same command again to continue", 130)


def _run(arguments: Sequence[str]) -> int:
    if not arguments:
        raise UserError("no verb is given; see scaling --help")
    if arguments[0] not in {*VERBS, *GENERAL_OPTIONS}:  # the library would import all verbs to name them
        from difflib import get_close_matches

        close_names = get_close_matches(arguments[0], VERBS, n=1)
        hint = f"did you mean '{close_names[0]}'? " if close_names else ""
        raise UserError(f"no verb '{arguments[0]}'; {hint}see scaling --help")
    from cyclopts import CycloptsError

    app = build_app()
    if arguments[0] == "--install-completion":  # imported for it alone
        app.register_install_completion_command()
    arguments = ["./-" if argument == "-" else argument for argument in arguments]  # a path to the library, no option
    try:
        return app(arguments) or 0
    except CycloptsError as error:
        raise UserError(_in_one_line(error)) from None


def _in_one_line(error: "CycloptsError") -> str:
    """What is wrong with the arguments, and where the way out is."""
    page = " ".join(["scaling", *(error.command_chain or ()), "--help"])
    errors = getattr(error.__cause__, "errors", None)
    if errors is not None:  # of pydantic, where the fields of a spec are the options
        problem = errors()[0]
        option = ".".join(map(str, problem["loc"])).replace("_", "-")
        return f"--{option} {problem['input']}: {problem['msg'].removeprefix('Value error, ')}; see {page}"
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text}{'' if text.endswith('?') else ';'} see {page}"


def _fail(message: str, code: int) -> int:
    print(f"scaling: {message}", file=sys.stderr)
    return code


def _shown_default(value: object) -> object:
    """A default as the user would type it. None, which prints nothing, for a flag and for an option that may be
    repeated."""
    if value is False or value == ():
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def _version() -> str:
    from importlib.metadata import version

    return f"scaling {version('scaling')}"


if __name__ == "__main__":
    sys.exit(main())
