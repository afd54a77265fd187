"""The stress: actors who race and break rules, chaos that kills, oracles that look, and a ledger of every answer.

What is deterministic are decisions. Each actor, and chaos, has a random generator of its own, seeded by the run's seed
and its name, and decides from it alone what it will try next: the deed, over HTTP or over SQL, which of the things it
knows the deed will be about (a number between 0 and 1), whether it minds whose turn it is, and whether the request
bears an Idempotency-Key. No answer and no clock takes part in that. So a seed gives each actor the same sequence of
decisions in every run, and the log of decisions replays them.

What is not deterministic is how they interleave: how many decisions of its sequence an actor comes to, which things
exist when it looks for one, who wins a race, and what is under way when chaos strikes.
"""
