"""Gossip: members compare what a log told each of them, so that two histories meet (docs/gossip.md).

`pool` judges and keeps, `round` chooses whom to ask, `grpc_*` carry the messages. Everything that decides is
pure: disk, clock, randomness and network come in as roles.
"""
