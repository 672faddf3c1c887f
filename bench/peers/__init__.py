"""Sealtrail's sealing on other engines: the same work, each written as its own community would write it."""
