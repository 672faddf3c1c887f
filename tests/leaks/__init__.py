"""The leak test: planted values through all of it, and a byte scan of every store."""
