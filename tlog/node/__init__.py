"""A member's node: one process that gossips, keeps trees, and runs a monitor and a witness if told."""
