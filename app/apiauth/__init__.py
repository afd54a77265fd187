"""Credentials: how people register, log in and out, and make tokens for their programs."""
