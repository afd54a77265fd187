"""The story that `brokerflow demo` plays: who is in it, what they do, what they are refused, and how it is told."""
