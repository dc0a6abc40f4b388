"""Stores: one contract (`tlog.storage.base`), in memory and on LMDB."""
