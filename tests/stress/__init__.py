"""The stress: that it breaks no promise, and that it would notice if one were broken."""
