"""What the report says of a corpus that no audit of its results speaks of."""

from emodarts.corpora.readers import corpus_names, describe


def corpus_facts(name: str) -> tuple[str, str]:
    """Language and licence of a corpus as this version knows them; empty for one that is known to others alone."""
    if name not in corpus_names():
        return "", ""
    description = describe(name)
    return description.language, description.licence
