"""The routes of the brokerage."""

from app.agreement import (
    agreements,
    brokers,
    contacts,
    disputes,
    invoices,
    matches,
    referrals,
    stream,
    timeline,
    webhooks,
)

handlers = [
    *brokers.handlers,
    *referrals.handlers,
    *contacts.handlers,
    *matches.handlers,
    *agreements.handlers,
    *webhooks.handlers,
    *timeline.handlers,
    *stream.handlers,
    *invoices.handlers,
    *disputes.handlers,
]
