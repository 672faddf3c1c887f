"""How schemas of the contract may change: their form, what a change breaks or weakens, and what was released (ADR 12)."""
