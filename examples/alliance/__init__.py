"""A made-up trade alliance whose members' event streams are converted from real, openly licensed data.

`members` says who is in it, `streams` gives every member's events, and there is one converter for each data
set. Nothing here reads a clock or draws randomness: the same files always give the same events.
"""
