"""The exceptions that the command line prints without a traceback."""


class UserError(Exception):
    """A mistake that the user can correct. Its text is one line that names the file, the field and what to do.

    The command line prints it without a traceback and exits with code 2. Any other exception is an error of the
    program.
    """


class NoSpaceError(UserError):
    """A disk is full. Someone may free some space, so a job that can wait tries again."""


class DivergedError(UserError):
    """A loss is not finite. In a run that the scaling law is fitted to, this is a result; in a stage that others build
    on, such as the VAE, the user has to change the learning rates."""

    def __init__(self, loss: float, done: int, rates: str) -> None:
        """`done` is the number of updates before it; `rates` names the learning rates and their values."""
        super().__init__(f"the loss is {loss} after {done} updates: lower the learning rates, {rates}")
        self.done = done


class StageError(Exception):
    """A stage ended without being complete, for a reason that the user did not cause. The text ends with the last lines
    of its output.

    The command line prints it and exits with code 1.
    """
