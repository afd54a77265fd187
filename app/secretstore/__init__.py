"""Secrets: sealed here, kept by the vault, versioned, and read with a trace."""
