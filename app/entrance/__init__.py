"""What everything that comes from outside passes first: who may ask, how much, and what the log hears of it."""
