"""Receivers of our own that stand for what a deployment has: a SIEM's collector, a syslog server. For tests and the demo."""
