"""What every domain shares: people, organizations, credentials' parsing, idempotency, pages, health."""
