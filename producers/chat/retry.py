"""Retry policies: named, versioned, and the same for whoever reads the name in the trail.

A policy's name stands for its numbers for ever: other numbers are another version. Jitter keeps connectors that failed
together from coming back together; it is the caller's lot, so a run can be repeated.

Not here: what is worth a retry (`transport.Reply`), and who waits (`connector`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sealtrail.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """attempts: all, the first included. base_s doubles with each further one up to cap_s. timeout_s: of one attempt."""

    name: str
    attempts: int
    base_s: float
    cap_s: float
    timeout_s: float

    def wait_s(self, attempt: int, lot: float, asked_s: float | None = None) -> float:
        """Seconds to wait after attempt number `attempt` failed.

        Args:
            attempt: 1, 2, …
            lot: in [0, 1): where between half of the delay and all of it.
            asked_s: what the receiver asked for (Retry-After); honoured up to cap_s.
        """
        delay = min(self.cap_s, self.base_s * float(1 << (attempt - 1))) * (1 + lot) / 2
        return delay if asked_s is None else max(delay, min(asked_s, self.cap_s))


POLICIES = {
    policy.name: policy
    for policy in (
        RetryPolicy("once.v1", attempts=1, base_s=0.0, cap_s=0.0, timeout_s=5.0),
        RetryPolicy("exponential-3.v1", attempts=3, base_s=0.2, cap_s=2.0, timeout_s=5.0),
        RetryPolicy("exponential-8.v1", attempts=8, base_s=0.5, cap_s=30.0, timeout_s=10.0),
    )
}
DEFAULT = "exponential-3.v1"


def policy_named(name: str) -> RetryPolicy:
    """The policy of that name. Raises ConfigError, which names those that exist."""
    try:
        return POLICIES[name]
    except KeyError:
        raise ConfigError(f"option --retry-policy: expected one of {', '.join(sorted(POLICIES))}") from None
