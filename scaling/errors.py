"""The one exception a user is meant to see: a mistake that they can mend."""


class UserError(Exception):
    """A mistake of the user's, said in one line that names the file, the field and the way out.

    The command line prints it without a traceback and exits with code 2. Faults of ours are any other exception.
    """
