"""Rules: which searches are reranked, on what text, and how; and the book that holds those in force."""
