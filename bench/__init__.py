"""Benchmarks, not tests: a figure here is a ratio of two things run alternately in one go."""
