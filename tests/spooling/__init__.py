"""The spool against a disk that loses what was not fsynced: `make spooltest`, and a short form in the tests."""
