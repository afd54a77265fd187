"""Where secrets for code in the service are kept: this PostgreSQL, AWS, or a Vault. Each is imported when chosen."""
