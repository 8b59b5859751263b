"""Audit: what is wrong or suspicious in a corpus and a protocol."""
