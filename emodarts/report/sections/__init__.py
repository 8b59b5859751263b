"""The sections of the page, a module each (or several that show the same rows)."""
