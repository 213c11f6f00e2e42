"""Networks and the weight zoo. Nothing is here yet: the first targets need no weights."""
