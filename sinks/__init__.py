"""What consumes sealed events. Each package is a deployment of its own, with its own credentials; none imports another."""
