"""The brokerage: brokers, referrals, contacts, matches, agreements, their timelines, invoices and disputes."""
