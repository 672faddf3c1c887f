"""One module per command of `sealtrail`."""
