"""Scenarios that run tlog on real data."""
