"""Tests: against real servers, never skipped."""
