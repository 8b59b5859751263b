"""Audit: what is wrong or suspicious in a corpus and a protocol.

`audit.audit_corpus` looks at everything and gives an `Audit` (`model`): counts, recordings, folds and cues, and
`findings` that judge them. `terminal` and `page` show it; `command` is `emodarts audit`.
"""
