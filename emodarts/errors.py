"""The one exception for mistakes that a user can mend: wrong paths, settings, files."""


class EmodartsError(Exception):
    """What is wrong, where, and what to do, in one sentence that is shown as it is (no traceback)."""
