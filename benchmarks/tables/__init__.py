"""Tables of papers: rows that are trained and scored here, with the numbers of the papers."""
