"""BrokerFlow: a thin service over the SQL in which PostgreSQL keeps the promises."""
