"""The error for users, and how errors of other libraries are quoted in it."""

import errno
import os
import re

# What Python and NumPy say where a damaged file leads them astray, and what that means to a user.
_MEANINGS = (
    (r"codec can't decode", "it holds bytes that are no text"),
    (r"could not convert string to float: (?P<word>.{0,40})", "{word} is not a number"),
    (r"invalid literal for int\(\)", "a word stands in place of a whole number"),
    (r"int too large|too large to convert|cannot fit", "a number is too large"),
    (r"cannot parse header|correct keys|multi-line statement|malformed node", "its header is damaged"),
    (r"requires a buffer", "it is cut off"),
    (r"while decompressing data", "what is compressed in it is damaged"),
    (
        r"object at 0x|object is not|subscriptable|unhashable|unsupported operand|NoneType|has no attribute"
        r"|cannot reshape|operands could not|could not broadcast|shape mismatch|cannot unpack|values to unpack"
        r"|not supported between|buffer size must|file name in directory|instance, \w+ found"
        r"|index .*out of|indices must be|argument must|must be .+, not |positional argument|keyword argument",
        "its parts do not fit together",
    ),
)


class InputError(ValueError):
    """A file, option or value that cannot be used.

    The message is one sentence for the user: what was expected, what was found, what to do. Commands print it and exit
    with 1.
    """


def advice(error: OSError) -> str:
    """What to do about an error of a file or folder, as "; give another folder"; empty if nothing is known."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        path = error.filename
        if isinstance(path, str) and os.path.exists(path) and not os.access(path, os.R_OK):
            return "; make it readable"
        return "; give another folder"
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return "; free some space, or give another folder"
    return ""


def one_line(error: BaseException) -> str:
    """Return an error's message on one line of at most 160 characters, for quoting in brackets.

    What Python and NumPy say of a damaged file is put in a user's words. An error without a message is quoted by the
    name of its type.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = str(error).partition("=== stderr ===")[0]  # imageio quotes all that ffmpeg has said behind it
    line = " ".join(message.split()).rstrip(".")
    if isinstance(error, KeyError) and re.fullmatch(r"'\S{1,40}'", line):
        return f"{line} is missing"
    if not isinstance(error, InputError):
        for words, meaning in _MEANINGS:
            if found := re.search(words, line, re.IGNORECASE):
                return meaning.format(**found.groupdict())
    return line[:160].rstrip(".") or type(error).__name__
