"""Prefect flows: composition only. Run one as `python -m flows.selection POOL --budget N`."""

import os

# For a server that Prefect starts itself: its first start takes longer than the default limit of 20 s,
# and with analytics on it prints a traceback at the end.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "90")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
