"""What people ask of hot search: a small language, and the OpenSearch query that it stands for."""
