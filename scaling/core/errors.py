"""The exceptions that the command line prints without a traceback."""


class UserError(Exception):
    """A mistake of the user's, said in one line that names the file, the field and the way out.

    The command line prints it without a traceback and exits with code 2. Faults of ours are any other exception.
    """


class NoSpaceError(UserError):
    """A disk is full. Somebody may free some: whoever can wait tries again."""


class DivergedError(UserError):
    """A loss is not finite. Of a run that the law is fitted to this is a result; of what others build on, the user's to
    mend."""

    def __init__(self, loss: float, done: int, rates: str) -> None:
        """`done` counts the updates before it."""
        super().__init__(f"the loss is {loss} after {done} updates: lower the learning rates, {rates}")
        self.done = done


class StageError(Exception):
    """A stage ended unfinished, and not for a reason that the user can mend; the text ends with its last words.

    The command line prints it and exits with code 1.
    """
