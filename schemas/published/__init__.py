"""The contract as pages for people and tools: event catalogue, field reference, RACI, examples, AsyncAPI. All generated."""
