"""The four reconstruction methods: one file tells one method's whole story."""

from importlib import import_module

from ..errors import InputError

METHODS = {"e2far": "E2FAR"}  # name -> class, in the module of that name


def method(name: str):
    """The class of a method by its name."""
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    return getattr(import_module(f".{name}", __package__), METHODS[name])
