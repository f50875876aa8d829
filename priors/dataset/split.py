"""Which part of the data a subject belongs to: decided by the name alone, so that nobody ever changes sides."""

from __future__ import annotations

import hashlib
import math

from fitter.errors import InputError

SPLITS = ("train", "val", "test")
_SALT = "hrn-split-1:"


def check_fractions(fractions: tuple[float, float, float]) -> None:
    """Refuse shares of train, val and test that are negative or do not sum to 1."""
    if any(not 0.0 <= share <= 1.0 for share in fractions) or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        given = " ".join(f"{share:g}" for share in fractions)
        raise InputError("--split", given, "shares of train, val and test that sum to 1", "For example: 0.8 0.1 0.1")


def split_of(subject: str, fractions: tuple[float, float, float]) -> str:
    """The split of a subject.

    A hash of the name gives a number in [0, 1); it depends on nothing else, so adding or leaving out subjects moves no
    other, and with wider `train` shares a subject only ever moves from test towards train.

    Args:
        subject: The subject's name.
        fractions: Shares of train, val and test; they sum to 1.
    """
    digest = hashlib.sha256((_SALT + subject).encode("utf-8")).digest()
    place = int.from_bytes(digest[:8], "big") / 2.0**64
    if place < fractions[0]:
        return "train"
    return "val" if place < fractions[0] + fractions[1] else "test"
