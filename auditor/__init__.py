"""What people run: the `sealtrail` command, verification, and reading of the archive."""
