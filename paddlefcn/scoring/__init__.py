"""Scores of many images: the report that val and score share, and how sure a score is."""
