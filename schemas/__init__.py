"""The contract: event schema, codec, field classes, class policy, topic catalogue, settings."""
