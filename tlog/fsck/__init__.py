"""`tlog fsck`: check everything that is stored of a log against its own signed checkpoint, and repair it."""
