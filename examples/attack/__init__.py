"""`make attack`: every lie that a log, a peer or a witness can tell, told by real processes, and caught."""
