"""Stream processors: what turns raw records into sealed ones. Start reading at `pipeline`."""
