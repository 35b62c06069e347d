"""What holds for all tests: properties are shown by the same examples on every machine, however quick or busy it is."""

from hypothesis import HealthCheck, settings

import slipway  # noqa: F401  # before anything imports grpc: it settles what that does at a fork

# How long an example takes, or is in the making, says something about the machine and not about the code.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **PATIENT)
# `pytest --hypothesis-profile=explore` looks for new examples.
settings.register_profile("explore", print_blob=True, **PATIENT)
settings.load_profile("same")
