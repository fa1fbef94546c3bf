"""How an imitated command ends, and how it reads its options."""

UNREACHABLE = "Unable to contact slurm controller (connect failure)"
PREFIX = {"squeue": "slurm_load_jobs error: ", "sinfo": "slurm_load_partitions: "}


class CommandError(Exception):
    """Ends a command with a message on stderr and an exit code."""

    def __init__(self, message, code=1):
        super().__init__(message)
        self.message, self.code = message, code


def not_imitated(what):
    return CommandError(f"imitation: not imitated: {what}", 99)


def unless_down(state, name):
    """Raises the error of a command whose controller does not answer."""
    if not state["faults"]["down"]:
        return
    if name == "sbatch":
        raise CommandError(f"sbatch: error: Batch job submission failed: {UNREACHABLE}")
    raise CommandError(PREFIX[name] + UNREACHABLE)


def options(arguments, known, prefix):
    """`--key=value` and `--key` as a dict, and the other arguments. `known` maps every spelling to a name."""
    values, positional = {}, []
    for argument in arguments:
        if not argument.startswith("-"):
            positional.append(argument)
            continue
        key, equals, value = argument.partition("=")
        key = known.get(key, key)
        if key not in known.values():
            raise not_imitated(f"{prefix} {argument}")
        values[key] = value if equals else True
    return values, positional


def same(*names):
    """The options that have only one spelling."""
    return {name: name for name in names}
