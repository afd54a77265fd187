"""Votes: which APIs users want."""
