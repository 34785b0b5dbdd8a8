"""How well a provider works: circuit breaker, score, back-off, key, connection."""
