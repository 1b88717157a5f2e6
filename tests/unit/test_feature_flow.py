"""How a flow ends when a step cannot go on."""

from __future__ import annotations

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.testing import TestingSink, TestingSource

from core.errors import ConfigurationError
from feature_pipeline.flow import run_flow


def _failing(error: Exception) -> Dataflow:
    def fail(_item: int) -> int:
        raise error

    flow = Dataflow("failing")
    numbers = op.input("numbers", flow, TestingSource([1]))
    op.output("out", op.map("fail", numbers, fail), TestingSink([]))
    return flow


def test_an_error_of_ours_leaves_the_flow_as_it_was_raised() -> None:
    """It names the variable and has the exit status; Bytewax's own names a line in Rust."""
    with pytest.raises(ConfigurationError, match=r"^RABBITMQ_HOST: is wrong"):
        run_flow(_failing(ConfigurationError("RABBITMQ_HOST", "is wrong")))


def test_what_nobody_expected_keeps_its_trace() -> None:
    """A fault in a step is not dressed up as something else."""
    with pytest.raises(BytewaxRuntimeError):
        run_flow(_failing(KeyError("x")))
