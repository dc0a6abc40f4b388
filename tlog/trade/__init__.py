"""What an alliance of traders puts into the log: the event catalogue and the business keys."""
