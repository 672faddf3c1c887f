"""The SIEM: sealed events that the policy routes there, as OCSF, to a collector that acknowledges and to syslog over TLS."""
