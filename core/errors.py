"""Every error of the project, branched by who has to act.

    TwinError
    ├── TransientError            try again: the other side will come back
    │   └── ServiceUnavailable
    ├── PoisonError               this item will never work: set it aside, go on with the next
    │   ├── MalformedEvent
    │   └── DocumentRejected
    └── TerminalError             this process cannot go on: a person must act
        ├── ConfigurationError
        ├── SchemaMismatch
        └── MissingDependency

The text of each says what happened, to what, and what to do next.
"""

from __future__ import annotations


class TwinError(Exception):
    """Root of the project's errors. `exit_status` is what a command ends with."""

    exit_status = 1


class TransientError(TwinError):
    """The same call may work later."""


class PoisonError(TwinError):
    """This item can never work.

    `reason` is a short fixed code for headers and metrics, `stage` the step that refused.
    """

    def __init__(self, sentence: str, *, reason: str, stage: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.stage = stage


class TerminalError(TwinError):
    """The process cannot go on until somebody changes something."""


class ServiceUnavailable(TransientError):
    """A service that we depend on cannot be reached or does not answer."""

    exit_status = 3

    def __init__(self, service: str, address: str, cause: str, hint: str = "") -> None:
        self.service = service
        self.address = address
        self.cause = cause
        sentence = f"{service} at {address} cannot be reached: {cause}."
        super().__init__(f"{sentence} {hint}".strip())


class MalformedEvent(PoisonError):
    """A message that is no change event in any accepted form."""

    def __init__(self, sentence: str, *, reason: str = "malformed") -> None:
        super().__init__(sentence, reason=reason, stage="decode")


class DocumentRejected(PoisonError):
    """A document that one stage of the pipeline cannot process."""

    def __init__(self, entry: str, sentence: str, *, reason: str, stage: str) -> None:
        super().__init__(f"document {entry}: {sentence}", reason=reason, stage=stage)
        self.entry = entry


class ConfigurationError(TerminalError):
    """A setting with a bad value."""

    exit_status = 2

    def __init__(self, variable: str, problem: str, remedy: str = "") -> None:
        self.variable = variable
        sentence = f"{variable}: {problem}."
        super().__init__(f"{sentence} {remedy}".strip())


class SchemaMismatch(TerminalError):
    """What is stored was made for another model or layout than the one configured."""


class MissingDependency(TerminalError):
    """A library or program that this part needs is not installed."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        super().__init__(f"{what} is not installed. {remedy}")
