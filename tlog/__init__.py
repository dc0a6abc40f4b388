"""A verifiable, append-only log for alliances whose members do not trust each other."""
