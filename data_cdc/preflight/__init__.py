"""What can be known before the first change is read: some looks, a sentence each.

An error is what no waiting mends. A warning lacks a guarantee, and the service runs
all the same. Looking writes nothing.
"""

from data_cdc.preflight.findings import Finding
from data_cdc.preflight.report import at_start, broker_at_start, preflight

__all__ = ["Finding", "at_start", "broker_at_start", "preflight"]
