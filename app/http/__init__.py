"""What every endpoint shares: problems, bodies, uploads, lists, idempotency, caching, content."""
