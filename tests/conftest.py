"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast examples are made depends on what else the machine does, and says nothing about the code.
settings.register_profile("mlpipe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mlpipe")
