"""Connectors: what turns an application's acts into audit events and hands them to Kafka."""
