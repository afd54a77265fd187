"""Writes app/<domain>/queries.py from sql/queries/<domain>, with the types that PostgreSQL itself reports."""
