"""Commands of `brokerflow` that are imported when they are called."""
