"""Measures what a request costs the service, and what the same statements cost PostgreSQL alone."""
