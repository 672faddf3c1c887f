"""Sealtrail's evidence format: seal, chain, Merkle tree, checkpoint, certificates, verification.

Pure: bytes in, values out. No network, no Kafka, no clock. Needs only `cryptography` and
`fastavro`, so that whoever checks a trail can install this package alone.
"""
