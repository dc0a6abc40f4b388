"""Other people's logs, spoken to as their own clients do: one file a peer, each a small client of its own."""
