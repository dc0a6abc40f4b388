"""Follows a log, replays everything in it, and raises typed alerts with evidence."""
