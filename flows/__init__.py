"""Prefect flows: composition only. Run one as `python -m flows.selection POOL --budget N`."""

import gc
import os

# For a server that Prefect starts itself: its first start takes longer than the default limit of 20 s,
# and with analytics on it prints a traceback at the end.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "90")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import prefect  # noqa: F401  # it reads the variables when it is imported

# What is there by now stays as long as the process does. The collector of garbage went through all of it several times,
# which took a tenth of the time of a flow whose results are in the store.
gc.freeze()
