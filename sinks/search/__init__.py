"""Hot search: sealed events as documents in OpenSearch. The archive is the record; this is how one finds it."""
