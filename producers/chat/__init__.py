"""A messaging integration: it sends messages by HTTP and states each step of their life."""

from producers.chat.connector import ChatConnector
from producers.chat.message import ChatMessage, MessageType, SendingPolicy
from producers.chat.transport import HttpTransport

__all__ = ["ChatConnector", "ChatMessage", "HttpTransport", "MessageType", "SendingPolicy"]
