"""What every corpus, operation or sampler must keep: inherit a class of these as `Test...` and give its fixture."""

from emodarts.corpora.table import UTTERANCES, audio_files


class CorpusContract:
    """What every reader must keep; subclasses give `corpus`."""

    def test_table(self, corpus):
        table = corpus.utterances
        assert table.schema.equals(UTTERANCES)
        ids = table["utterance"].to_pylist()
        assert ids == sorted(set(ids))
        assert all(i.startswith(corpus.name + "/") for i in ids)
        assert all(s is None or s.startswith(corpus.name + "/") for s in table["speaker"].to_pylist())

    def test_every_audio_file_is_accounted_for(self, corpus):
        on_disk = {f.relative_to(corpus.root).as_posix() for f in audio_files(corpus.root)}
        told = {*corpus.utterances["path"].to_pylist(), *corpus.dropped["path"].to_pylist()}
        assert on_disk <= told
