"""Data: reading, data sets, transforms, loading, checks. Nothing in here imports paddle."""
