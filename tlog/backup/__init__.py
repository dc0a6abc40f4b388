"""A backup of a log: whole trees as static tiles, and what a restored store needs beyond them."""
