"""The archive sink: from the archive topic to locked objects in S3, one chain a partition (design §7).

`checking` and `writer` are pure; `store` speaks S3; `partition` commits one chain's segments; `sink` is the loop and
`assembly` puts it together from settings; `publish` lays down what a stranger needs to read the rest.
"""
