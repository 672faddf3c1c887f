"""`python -m infra up | down | status | reset`: the stack's commands without the console script."""

from infra.cli import stack

stack(prog_name="python -m infra")
