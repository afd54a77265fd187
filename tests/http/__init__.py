"""The HTTP core, over real HTTP and on a real PostgreSQL."""
