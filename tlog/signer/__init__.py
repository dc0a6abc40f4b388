"""The process that holds a log's key, apart from the log: what it is asked, signs, and remembers."""
