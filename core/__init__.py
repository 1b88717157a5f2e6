"""What the services share: contracts, clients at the rim, and nothing that happens at import."""
