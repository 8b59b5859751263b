"""The units of a sweep in its driver: which wait, which run and how they ended, rebuilt from the result tables."""
