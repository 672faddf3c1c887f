"""`python -m auditor` is `sealtrail`, where the console script is not on the path."""

from auditor.cli import main

main()
