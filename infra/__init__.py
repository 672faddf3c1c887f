"""The local stack: Kafka, an S3 server with Object Lock and OpenSearch, from package registries alone.

Everything here is for one machine: certificates, keys and credentials are made on the first `up` and stay in one
folder. Nothing of it is imported by what runs the trail; other deployments bring their own servers and give the same
settings.
"""
