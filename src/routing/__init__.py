"""Decides which task goes to which provider, and when. PURE: no clock, no I/O, no randomness of its own.

Every function takes `now` (UTC epoch seconds that never go backwards); jitter comes from a
`random.Random` passed in. So the same code runs live, in tests without a sleep, and in virtual time.
A test reads this folder's imports and fails on anything that would break that.
"""
