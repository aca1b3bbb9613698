"""What a user did that cannot be done."""


class InputError(ValueError):
    """A file, option or value that cannot be used. The message is one sentence for the user: what was expected, what was found, what to do.
    Commands print it and exit with 1."""
