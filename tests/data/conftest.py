"""What the tests of data share."""

from __future__ import annotations

from hypothesis import settings

# A slow machine is no failure: the first example may import scikit-learn, and two processes may share a core.
settings.register_profile("tsbench", deadline=None)
settings.load_profile("tsbench")
