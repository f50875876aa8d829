"""Published evaluation protocols, each on its data set's own layout."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fitter.errors import InputError

if TYPE_CHECKING:
    from benchmarks.protocols.types import Protocol

MODULES = {
    "now": ("now", "NOW_PROTOCOL"),
    "now-metrical": ("now", "METRICAL_PROTOCOL"),
    "micc-symmetric": ("micc", "SYMMETRIC_PROTOCOL"),
    "micc-cropped": ("micc", "CROPPED_PROTOCOL"),
    "fg2018": ("fg2018", "FG2018_PROTOCOL"),
    "esrc-2view": ("several_views", "ESRC_PROTOCOL"),
    "facescape-3view": ("several_views", "FACESCAPE_PROTOCOL"),
    "realy": ("realy", "REALY_PROTOCOL"),
    "facescape-wild": ("facescape", "WILD_PROTOCOL"),
    "facescape-lab": ("facescape", "LAB_PROTOCOL"),
}
"""Name on the command line -> module and what it is called there."""


def protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        InputError: There is none.
    """
    if name not in MODULES:
        raise InputError("the protocol", repr(name), f"one of {', '.join(MODULES)}")
    module, attribute = MODULES[name]
    return getattr(import_module(f"benchmarks.protocols.{module}"), attribute)
