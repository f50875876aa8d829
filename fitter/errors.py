"""Errors that a user can act on: one clear line, no traceback, exit code 2."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave (a file, a setting) cannot be used.

    The message is one line: which file or setting, what was found, what was expected, and what to do.

    Args:
        where: File, folder or setting at fault.
        found: What was found there.
        expected: What would have been right.
        remedy: What the user can do about it.
    """

    def __init__(self, where: object, found: str, expected: str = "", remedy: str = "") -> None:
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        parts = [f"{where}: found {found}"]
        if expected:
            parts.append(f"expected {expected}")
        message = "; ".join(parts)
        if remedy:
            message = f"{message}. {remedy}"
        super().__init__(" ".join(message.split()))


class MissingPartError(InputError):
    """An optional package, a model file or a device that the request needs is not here.

    Args:
        part: What is missing.
        needed_for: What needs it.
        remedy: Where it comes from and how to install it.
    """

    def __init__(self, part: str, needed_for: str, remedy: str) -> None:
        super().__init__(part, "nothing usable", needed_for, remedy)
        self.args = (" ".join(f"{part} is missing, needed for {needed_for}. {remedy}".split()),)
