"""Detection: Sigma rules with correlations over sealed events, and sources that fall silent. On Faust (ADR 9)."""
