"""Weakens the schema in every way that the catalog offers, and looks whether a test turns red."""
