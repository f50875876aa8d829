"""What the whole suite shares: threads that yield, and the open face model."""

from __future__ import annotations

import os

# Before torch starts its threads: waiting ones must not burn the cores of others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from fitter.model.morphable import MorphableModel


@pytest.fixture(scope="session")
def open_model(tmp_path_factory) -> MorphableModel:
    """The open model: from the user's cache, or built into a temporary cache that the session then uses throughout."""
    from fitter.model.cache import load_cached_model
    from fitter.model.open_model import load_open_model, open_model_path

    pytest.importorskip("anny")
    if load_cached_model(open_model_path()) is None:
        os.environ["HRN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    return load_open_model()
