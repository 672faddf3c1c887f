"""Every bit of a segment flipped and thousands of random edits, each looked for by the verifier: `make tamper`."""
