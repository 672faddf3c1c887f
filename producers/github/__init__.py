"""GitHub webhooks as audit events."""

from producers.github.connector import GithubConnector
from producers.github.mapping import GITHUB, Mapped, draft_of

__all__ = ["GITHUB", "GithubConnector", "Mapped", "draft_of"]
