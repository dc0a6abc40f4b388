"""A witness: remembers the newest checkpoint of each log, cosigns consistent ones (C2SP tlog-witness)."""
