"""Looks for what is legal in PostgreSQL and wrong all the same, in the chapters and in the catalog they make."""
