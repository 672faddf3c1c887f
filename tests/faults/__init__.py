"""Faults for tests: wrappers that stand between a process and what it depends on. Production code has no hooks for them."""
