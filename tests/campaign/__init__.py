"""`make faults`: sealers on a cluster of three real brokers, under load, through a plan of faults that follows from a seed.

    plan      which faults, in which order, and which shard has them
    cluster   three brokers, and the relays in front of them
    relay     ends TLS between sealers and brokers, and holds, drops or repeats requests by their kind
    wire      as much of Kafka's framing as that needs
    sealers   `sealtrail run sealer`, a few processes
    load      events by their ids, and what of them is sealed
    acts      one fault of the plan: done, recovered from, checked
    shard     a part of the plan on a cluster of its own
    lines     what was done, a line a fault, and the counts

Production code has no hooks for any of it: faults come by signals, and between sealer and broker.
"""
