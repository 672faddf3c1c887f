"""The five families of error, for every package of Sealtrail.

    SealtrailError
    ├── EvidenceError      the evidence is bad: report it, never retry
    ├── UndecidedError     it could not be told: never shown as good
    ├── TransientError     a dependency is away: try again after `retry_after_s`
    ├── ConfigError        a setting is wrong or missing: the message names it
    └── ContractError      a caller's event is refused: names the field, never its value

Messages say what, where, expected and got; never a payload, never a secret.
"""

from __future__ import annotations


class SealtrailError(Exception):
    """The root of the tree; catch it at process boundaries only."""


class EvidenceError(SealtrailError):
    """Bytes that claim to be evidence are not what the format demands."""


class UndecidedError(SealtrailError):
    """A check could not be carried out, so nothing may be concluded from it."""


class TransientError(SealtrailError):
    """A dependency did not answer; the same call may succeed later.

    Args:
        message: what was tried, and where.
        retry_after_s: seconds to wait before the next try.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConfigError(SealtrailError):
    """The deployment is set up wrongly; a retry cannot help."""


class ContractError(SealtrailError):
    """An event breaks the contract.

    Args:
        field: dotted path of the offending field, or "" for the record as a whole.
        problem: what is wrong, in words that do not contain the value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem
