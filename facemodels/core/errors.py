"""The error for users, and how errors of other libraries are quoted in it."""


class InputError(ValueError):
    """A file, option or value that cannot be used.

    The message is one sentence for the user: what was expected, what was found, what to do. Commands print it and exit
    with 1.
    """


def one_line(error: BaseException) -> str:
    """Return an error's message on one line of at most 160 characters, for quoting in brackets.

    An error without a message is quoted by the name of its type.
    """
    message = str(error).partition("=== stderr ===")[0]  # imageio quotes all that ffmpeg has said behind it
    return " ".join(message.split())[:160].rstrip(".") or type(error).__name__
