"""`make kills`: the five processes killed again and again under load, and what the stores then hold, counted.

Not part of `make test`, which kills each process at fixed points (`test_*_faults`, `test_*_sink`, `test_detector`).
"""
