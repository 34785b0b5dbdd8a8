"""Rate limits, concurrency and quotas: what a provider lets through."""
