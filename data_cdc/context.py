"""What every part of one process shares."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from core.config import CdcConfig, MongoConfig, RabbitConfig
from core.mq.topology import Topology
from data_cdc.operations.metrics import CdcMetrics
from data_cdc.transforms import Chain


@dataclass(frozen=True, kw_only=True)
class Context:
    """Configuration, where to count, and `stop`, which is set when the process must end."""

    mongo: MongoConfig
    rabbitmq: RabbitConfig
    cdc: CdcConfig
    chain: Chain
    metrics: CdcMetrics
    stop: threading.Event

    @property
    def topology(self) -> Topology:
        """What must exist on the broker."""
        return Topology(self.mongo.database, self.cdc.collections, self.rabbitmq.queue)
