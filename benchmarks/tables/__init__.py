"""Tables of papers: their rows, trained and scored here, beside the papers' numbers."""
