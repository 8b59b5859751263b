"""What the command line says, and what of it makes the sweep's hash."""

import hashlib
import json
import re
from dataclasses import replace

import pytest
from hydra.errors import CompactHydraException

from emodarts.corpora.readers import describe
from emodarts.errors import EmodartsError
from emodarts.experiment import stages
from emodarts.networks.network import NetworkShape
from sweeps.hydra_config import known_settings
from sweeps.hydra_errors import format_hydra_error
from sweeps.study.search_space import SearchSpace
from sweeps.variants.matrix import matrix_sweeps
from tests.support.commands import of_command, settings


@pytest.mark.parametrize(
    "given",
    [
        ["corpus.columns.label=mood", "corpus.columns.speaker=who"],
        ["corpus.columns={label: mood, speaker: who}"],
        ["+corpus.columns.label=mood", "+corpus.columns.speaker=who"],
    ],
)
def test_columns_of_a_table(given):
    assert settings("corpus=manifest", *given).corpus.columns == {"label": "mood", "speaker": "who"}


def test_an_unknown_column_is_refused():
    with pytest.raises(EmodartsError, match=r"corpus\.columns names unknown fields: mood; known are file, speaker"):
        settings("corpus=manifest", "corpus.columns.mood=label")


@pytest.mark.parametrize("corpus", ["iemocap", "ravdess", "savee", "manifest"])
def test_each_corpus_is_a_choice_with_its_default_protocol_and_source(corpus):
    found = settings(f"corpus={corpus}").corpus
    assert found.name == corpus
    if found.protocol is not None:
        assert found.protocol == f"{corpus}/{describe(corpus).protocol}"
        assert found.source == describe(corpus).sources[0]


@pytest.mark.slow
def test_spellings_of_one_protocol_make_one_sweep():
    names = {
        settings("corpus=iemocap", *given).sweep_name
        for given in ([], ["protocol=session5"], ["corpus.protocol=session5"], ["corpus.protocol=null"])
    }
    assert len(names) == 1
    assert settings("corpus=iemocap", "protocol=speaker10").sweep_name not in names
    assert settings("corpus=iemocap", "corpus.source=null").sweep_name in names


@pytest.mark.slow
def test_ensembles_and_seeds_are_no_part_of_the_hash():
    plain = settings("system=[emodarts,svm]").sweep_name
    asked = ["sweep.top=0"], ["sweep.top=9", "sweep.seeds_of=members", "sweep.seeds=3"], ["ensemble=[svm,emodarts]"]
    assert {settings("system=[emodarts,svm]", *given).sweep_name for given in asked} == {plain}
    assert settings("system=[emodarts:fixed,svm]", "ensemble=[emodarts:fixed,svm]").ensemble


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (["system=emodarts", "ensemble=[emodarts,svm]"], "svm is none of the systems: emodarts"),
        (["system=emodarts", "ensemble=[emodarts]"], "name two systems or more, none twice"),
        (["system=[emodarts,svm]", "ensemble=[svm,svm]"], "name two systems or more, none twice"),
        (["system=[emodarts,svm]", "ensemble=[emodarts,svm]", "sweep.top=0"], "set sweep.top to 1 or more"),
        (["sweep.top=0", "sweep.seeds_of=members"], "there are no members"),
    ],
)
def test_ensembles_that_cannot_be_are_refused(given, refusal):
    with pytest.raises(EmodartsError, match=refusal):
        settings(*given)


@pytest.mark.slow
def test_a_file_counts_by_its_name_wherever_it_lies():
    names = {settings("corpus=savee", f"protocol={folder}/mine.csv").sweep_name for folder in ("/a", "/b/c", ".")}
    assert len(names) == 1
    assert settings("corpus=savee", "protocol=/a/other.csv").sweep_name not in names


@pytest.mark.slow
def test_what_is_stored_where_does_not_count():
    whole = settings("corpus=emodb").sweep_name
    assert (
        settings("corpus=emodb", "corpus.root=/x", "results=/y", "batches.device_memory_fraction=0").sweep_name == whole
    )
    assert settings("corpus=emodb", "batches.bucket_size=0").sweep_name != whole


def test_a_normalisation_makes_another_sweep_and_the_default_the_one_that_it_made():
    names = {settings("corpus=emodb", f"features.normalisation={rule}").sweep_name for rule in ("speaker", "speaker@5")}
    plain = settings("corpus=emodb")
    assert settings("corpus=emodb", "features.normalisation=train").sweep_name == plain.sweep_name not in names
    assert len(names) == 2
    assert "features.normalisation" not in plain.hashed_settings()  # as before there was a choice
    by_speaker = settings("corpus=emodb", "features.normalisation=speaker@5")
    assert by_speaker.hashed_settings()["features.normalisation"] == "speaker@5"
    assert by_speaker.systems["emodarts:fixed:joint"].features.content == (
        plain.systems["emodarts:fixed:joint"].features.content
    )


def test_a_control_is_another_system_and_another_sweep():
    plain = settings("corpus=emodb", "system=emodarts")
    control = settings("corpus=emodb", "search.method=random_search")
    assert (*plain.systems, *control.systems) == ("emodarts", "emodarts:random_search:joint")
    assert plain.sweep_name != control.sweep_name


@pytest.mark.parametrize(
    ("given", "system"),
    [
        ([], "emodarts:fixed:joint"),
        (["search=frames", "features=whisper", "features.model=m"], "emodarts:fixed:joint"),
        (["system=emodarts"], "emodarts"),
        (["search=paper"], "emodarts"),
        (["experiment=emodarts_iemocap"], "emodarts"),
        (["search.method=spos"], "emodarts:spos:joint"),
        (["search.scope=cnn_only", "search.stop=none"], "emodarts:darts:cnn_only"),
        (["search=sampler"], "emodarts:sampler:joint"),
        (["search=paper", "system=svm"], "svm"),
    ],
)
def test_nothing_is_searched_unless_a_search_is_named(given, system):
    assert list(settings(*given).systems) == [system]


def test_the_modern_space_takes_one_word():
    found = settings("search.space=modern", "sweep.dimensions=[search.seqnn]")
    assert "gru_1" in found.search.seqnn_operations
    assert "search.seqnn" in SearchSpace.of(found).free


def test_the_space_for_frames_takes_one_word_and_brings_its_sizes():
    frames = settings("search=frames")
    assert (frames.search.space, frames.search.cells, frames.search.nodes) == ("frames", 2, 2)
    assert "bilstm_1" in frames.search.seqnn_operations
    assert settings().search.space == "compact"


def test_each_system_has_the_dimensions_that_do_something_for_it():
    found = settings("system=[emodarts,cnn_lstm_attention,svm]")
    assert {name: made.system for name, made in found.systems.items()} == {
        "emodarts": "emodarts", "cnn_lstm_attention": "cnn_lstm_attention", "svm": "svm",
    }  # fmt: skip
    dimensions = {name: set(SearchSpace.of(found, made).free) for name, made in found.systems.items()}
    assert dimensions["svm"] == {"training.svm_penalty"}
    assert dimensions["emodarts"] == dimensions["cnn_lstm_attention"], (
        "the same for a search and what is designed by hand"
    )
    assert len(dimensions["emodarts"]) == 8
    own = [f"search.{name}" for name in ("nodes", "cells", "alpha_learning_rate", "learning_rate", "epochs")]
    named = f"sweep.dimensions=[{','.join(own)},training.dropout]"
    assert set(SearchSpace.of(settings(named, "system=emodarts")).free) == {*own, "training.dropout"}
    assert set(SearchSpace.of(settings(named, "system=cnn_lstm_attention")).free) == {"training.dropout"}
    drawn = set(SearchSpace.of(settings(named, "system=emodarts:random_architecture:joint")).free)
    assert drawn == {"search.nodes", "search.cells", "training.dropout"}


@pytest.mark.slow
def test_systems_of_one_sweep_may_be_named_one_after_the_other():
    assert len({settings(f"system={s}").sweep_name for s in ("emodarts", "cnn", "[cnn,svm]")}) == 1


@pytest.mark.slow
def test_controls_stand_beside_the_search_in_one_list():
    found = settings("system=[emodarts,emodarts:random_search:joint,emodarts:darts:cnn_only,cnn_lstm_attention,svm]")
    names = ["emodarts", "emodarts:random_search:joint", "emodarts:darts:cnn_only", "cnn_lstm_attention", "svm"]
    assert list(found.systems) == names
    searches = {name: (s.search.method, s.search.scope) for name, s in found.systems.items() if s.searches}
    assert list(searches.values()) == [("darts", "joint"), ("random_search", "joint"), ("darts", "cnn_only")]
    control = settings("search.method=random_search")
    assert found.systems[names[1]] == control.systems[names[1]]
    assert set(SearchSpace.of(found, found.systems[names[1]]).free) == set(SearchSpace.of(found).free)
    assert found.sweep_name == settings().sweep_name, "a system may be added to a sweep"
    assert settings("system=emodarts:frozen:joint").systems == settings("search.method=frozen").systems


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "emodarts:guess:joint",
            "emodarts:<method>:<scope> with the method darts, spos, frozen, random_architecture, random",
        ),
        ("emodarts:darts:all", "and the part that is searched joint, cnn_only, seqnn_only, one_after_the_other"),
        ("emodarts:frozen:one_after_the_other", "only alphas can move in turn"),
        ("[emodarts,emodarts:darts:joint]", "none twice"),
    ],
)
def test_a_control_that_there_is_not(given, told):
    with pytest.raises(EmodartsError, match=told):
        _ = settings(f"system={given}").systems


@pytest.mark.parametrize("given", ["[]", "[cnn,cnn]", "[cnn,[svm]]", "3"])
def test_systems_are_names_none_twice(given):
    with pytest.raises(EmodartsError, match="one system, or a list of several, none twice"):
        _ = settings(f"system={given}").systems


def test_the_fixed_architecture_has_a_short_name():
    own = "sweep.dimensions=[search.nodes,search.epochs,search.learning_rate,search.alpha_learning_rate]"
    asked = settings("system=[emodarts,emodarts:fixed]", "search.match_parameters=cnn", own)
    assert list(asked.systems) == ["emodarts", "emodarts:fixed:joint"]
    fixed = asked.systems["emodarts:fixed:joint"]
    assert (fixed.search.method, fixed.search.scope, fixed.search.match_parameters) == ("fixed", "joint", "cnn")
    dimensions = set(SearchSpace.of(asked, fixed).free)
    assert "search.nodes" in dimensions
    assert not dimensions & {"search.epochs", "search.learning_rate", "search.alpha_learning_rate"}
    with pytest.raises(EmodartsError, match="none twice"):
        _ = settings("system=[emodarts:fixed,emodarts:fixed:joint]").systems


def test_an_unknown_system_is_refused():
    with pytest.raises(EmodartsError, match="system=resnet is unknown: emodarts, cnn, lstm"):
        SearchSpace.of(settings("system=resnet"))


def test_the_published_search_has_no_remedies():
    published = settings("search=paper").search
    assert (published.warmup, published.relaxation, published.regulariser) == (0, "softmax", "none")
    assert (published.selection, published.stop, published.cost_weight) == ("magnitude", "none", 0.0)
    assert (len(published.seqnn_operations), published.sequence_shortcut) == (14, False)


@pytest.mark.parametrize("experiment", ["iemocap", "msp_improv", "msp_podcast", None])
def test_the_published_network_is_trained_at_the_published_sizes_schedule_and_batch(experiment):
    command = [f"experiment=emodarts_{experiment}"] if experiment else ["search=paper", "corpus=emodb"]
    space = SearchSpace.of(settings(*command))
    first = space.apply(space.default_parameters())
    search, training = first.search, first.training
    shape = NetworkShape(
        4, 1, 128, search.cells, search.nodes, search.channels, search.sequence_cells, search.sequence_nodes,
        search.sequence_width, search.stem_channels, tuple(search.stem_strides),
    )  # fmt: skip
    assert stages._training_shape(shape, training) == shape
    assert (shape.layout, shape.channels, shape.nodes) == ("NRRN", 8, 4)
    assert (shape.sequence_cells, shape.sequence_nodes, shape.sequence_width) == (4, 4, 128)
    assert (search.batch_size, training.batch_size, search.epochs, training.epochs) == (64, 96, 50, 50)
    assert (training.optimiser, training.schedule, training.momentum) == ("sgd", "cosine", 0.9)
    assert (training.learning_rate, training.final_learning_rate, training.weight_decay) == (0.025, 0.0, 3e-4)


def test_a_reduced_variant_of_the_published_search_has_a_name_of_its_own():
    reduced, published = (settings(f"search={name}", "corpus=iemocap") for name in ("paper_reduced", "paper"))
    assert (reduced.search.space, reduced.search.optimisation) == ("emodarts", "bilevel")
    assert reduced.search.cells < published.search.cells
    assert reduced.training.optimiser == "sgd"
    space = SearchSpace.of(reduced)
    assert space.apply(space.default_parameters()).search.epochs == 15
    assert settings("experiment=emodarts_iemocap", "search=paper_reduced").search == reduced.search


@pytest.mark.slow
def test_several_corpora_make_one_sweep_in_any_order():
    first, second = (of_command(f"train_corpora=[{names}]") for names in ("ravdess,emodb", "emodb,ravdess"))
    assert first.hashed_settings() == second.hashed_settings()
    assert first.sweep_name == second.sweep_name
    assert re.fullmatch("emodb-ravdess-[0-9a-f]{8}", first.sweep_name)
    assert [about.name for about in first.training_corpora] == ["emodb", "ravdess"]
    names = {of_command(f"train_corpora=[{names}]").sweep_name for names in ("emodb,savee", "emodb,ravdess,savee")}
    assert len({*names, first.sweep_name}) == 3


@pytest.mark.slow
def test_several_corpora_share_class_set_and_policies_and_have_their_own_rest():
    given = [
        "train_corpora=[ravdess,crema_d]",
        "corpus.calm=neutral",
        "corpus.class_set='angry,sad'",
        "roots.crema_d=/x",
    ]
    crema_d, ravdess = of_command(*given).training_corpora
    assert (crema_d.root, ravdess.root) == ("/x", None)
    for about in (crema_d, ravdess):
        assert (about.calm, about.class_set, about.protocol, about.source) == ("neutral", "angry,sad", None, None)
    assert of_command(*given).sweep_name != of_command(given[0]).sweep_name
    assert of_command(*given).sweep_name == of_command(*given[:-1]).sweep_name, "folders do not count"


@pytest.mark.slow
def test_the_demo_s_budget_is_the_demo_s_alone():
    joined, one, demo = (of_command(*given) for given in (["train_corpora=[emodb,savee]"], ["corpus=emodb"], []))
    assert (joined.search, joined.training, joined.sweep) == (one.search, one.training, one.sweep)
    assert joined.search != demo.search
    assert of_command("train_corpora=[demo]") == demo


@pytest.mark.slow
def test_one_corpus_in_the_list_is_that_corpus():
    alone = settings("corpus=emodb", "corpus.root=/x")
    assert of_command("train_corpora=[emodb]", "roots.emodb=/x") == replace(alone, roots={"emodb": "/x"})
    assert of_command("train_corpora=[emodb]", "protocol=speaker5").corpus.protocol == "speaker5"
    assert of_command("train_corpora=[]", "corpus=emodb") == settings("corpus=emodb")


def test_a_sweep_of_one_corpus_has_the_hash_that_it_had():
    """Its settings are those from before there were lists of corpora: nothing was added, nothing renamed."""
    for given in (["corpus=emodb"], ["corpus=savee", "extra_tests=[tess,ravdess]", "roots.tess=/x"]):
        found = settings(*given)
        content = found.hashed_settings()
        assert not {name for name in content if name.startswith(("train_corpora", "roots"))}
        assert content["corpus.name"] == found.corpus.name
        assert content["corpus.protocol"] == f"{found.corpus.name}/{describe(found.corpus.name).protocol}"
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        assert found.sweep_name == f"{found.corpus.name}-{digest}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["train_corpora=[emodb,emodb]"], r"train_corpora=\[emodb,emodb\]: emodb is named twice"),
        (["extra_tests=[tess,tess]"], r"extra_tests=\[tess,tess\]: tess is named twice"),
        (["train_corpora=[emodb,nobody]"], "unknown corpus 'nobody': `emodarts corpora` lists all"),
        (["train_corpora=[nobody]"], "unknown corpus 'nobody': `emodarts corpora` lists all"),
        (["corpus=emodb", "train_corpora=[emodb,savee]"], "each corpus of the list has its own settings; leave corpus"),
        (["corpus=demo", "train_corpora=[emodb]"], r"train_corpora=\[emodb\] and corpus=demo: these are two corpora"),
        (["corpus=joined"], "joins two corpora or more: name them with train_corpora"),
        (["train_corpora=[emodb,savee]", "protocol=speaker4"], "and protocol would speak of one: leave it out"),
        (["train_corpora=[emodb,savee]", "corpus.root=/x"], r"roots\.<corpus>"),
        (
            ["train_corpora=[emodb,savee]", "corpus.columns.label=mood", "corpus.source=intended"],
            r"corpus\.source, corpus\.columns would speak of one",
        ),
        (["train_corpora=[emodb,savee]", "corpus.scenario=read", "corpus.table=a"], r"corpus\.scenario, corpus\.table"),
    ],
)
def test_what_does_not_go_with_several_corpora(given, words):
    with pytest.raises(EmodartsError, match=words):
        of_command(*given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("corpus.rot=/data", "there is no setting corpus.rot: did you mean corpus.root? `--help` lists all"),
        ("sytem=cnn", "there is no setting sytem: did you mean system? `--help` lists all"),
        ("wind=4", "there is no setting wind: `--help` lists all"),
        ("sweep.trials=many", "sweep.trials: Value 'many' of type 'str' could not be converted to Integer"),
        ("sweep.folds=0", "sweep.folds: Invalid value assigned: int is not a ListConfig, list or tuple; a list is "
         "written [a,b]"),
        ("sweep=redused", "there is no sweep=redused: did you mean reduced? choose one of default, reduced"),
        ("sweep.folds=[0", "the command line cannot be read: no viable alternative at input '[0'"),
        ("~sweep.space.training.widht", "Could not delete from config. 'sweep.space.training.widht' does not exist."),
    ],
)  # fmt: skip
def test_what_hydra_refuses_is_one_sentence(given, said):
    with pytest.raises(CompactHydraException) as refused:
        settings(given)
    assert format_hydra_error(refused.value, known_settings()) == said


def test_workers_without_ray_are_refused():
    with pytest.raises(EmodartsError, match=r"resources\.max_concurrent_trials=2: ray\.address=none has one process"):
        settings("ray.address=none", "resources.max_concurrent_trials=2")


@pytest.mark.slow
def test_settings_of_a_pruner_that_is_not_taken_change_nothing():
    names = {settings(*given).sweep_name for given in ([], ["sweep.reduction_factor=4"], ["sweep.p_threshold=0.2"])}
    assert len(names) == 1
    by_asha = [
        ["sweep.pruner=asha", *more] for more in ([], ["sweep.training_rungs=[0.25]"], ["sweep.startup_folds=4"])
    ]
    names |= {settings(*given).sweep_name for given in by_asha}
    assert len(names) == 3


@pytest.mark.slow
@pytest.mark.parametrize("group", ["whisper", "encoder", "wavlm", "wav2vec2", "hubert"])
def test_a_model_of_transformers_takes_the_place_of_a_bundle(group, tmp_path):
    chosen = of_command(f"features={group}", f"features.model={tmp_path}", "features.frames_per_second=25").features
    assert (chosen.kind, chosen.model, chosen.layers, chosen.frame_rate) == ("encoder", str(tmp_path), None, 25)
    assert chosen.speeds == [1.0]
    weighted = of_command(f"features={group}", f"features.model={tmp_path}", "features.layers=learned").features
    assert weighted.learned_layers
    assert of_command("features=wavlm", f"features.model={tmp_path}", "features.layers=[0,2]").features.layers == [0, 2]


def test_without_a_model_bundles_are_what_they_were():
    assert [of_command(f"features={group}").features.layers for group in ("wav2vec2", "hubert")] == [[9], [9]]
    wavlm = of_command("features=wavlm").features
    assert (wavlm.kind, wavlm.learned_layers, wavlm.content["layers"]) == ("pretrained", True, list(range(1, 13)))
    for group in ("whisper", "encoder"):
        with pytest.raises(EmodartsError, match=r"features\.model is missing"):
            of_command(f"features={group}")


def test_a_model_counts_by_its_name_and_the_wish_to_download_not_at_all(tmp_path):
    first, other = (of_command("features=whisper", f"features.model={tmp_path}/{place}/x") for place in "ab")
    assert first.sweep_name == other.sweep_name
    asked = of_command("features=whisper", f"features.model={tmp_path}/a/x", "features.download=true")
    assert asked.sweep_name == first.sweep_name


# A matrix of corpora, and classes in common


def test_a_matrix_is_a_sweep_of_each_corpus_tested_on_the_others():
    found = of_command("experiment=matrix", "matrix=[savee,emodb,nemo]", "roots.nemo=/x")
    assert found.corpus.class_set == "angry,fearful,happy,neutral,sad,surprised".replace(",surprised", "")
    sweeps = matrix_sweeps(found)
    assert [sweep.corpus.name for sweep in sweeps] == ["emodb", "nemo", "savee"]
    assert [sweep.corpus.root for sweep in sweeps] == [None, "/x", None]
    assert sorted(sweeps[0].extra_tests) == ["nemo", "savee"]
    assert {sweep.corpus.class_set for sweep in sweeps} == {found.corpus.class_set}
    alone = of_command("experiment=matrix", "matrix=[]", "corpus=emodb", "extra_tests=[savee,nemo]")
    assert sweeps[0].sweep_name == alone.sweep_name  # an ordinary sweep, under its own name
    named = matrix_sweeps(of_command("matrix=[emodb,nemo]", "sweep.name=grid"))
    assert [sweep.sweep_name for sweep in named] == ["grid-emodb", "grid-nemo"]


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (["matrix=[emodb]"], "name two corpora or more"),
        (["matrix=[emodb,emodb]"], "emodb is named twice"),
        (["matrix=[emodb,nobody]"], "unknown corpus 'nobody'"),
        (["matrix=[emodb,nemo]", "corpus=savee"], "leave corpus out"),
        (["matrix=[emodb,nemo]", "extra_tests=[savee]"], "leave extra_tests out"),
        (["matrix=[emodb,nemo]", "corpus.root=/x"], r"leave corpus\.root out"),
    ],
)
def test_what_does_not_go_with_a_matrix(given, refusal):
    with pytest.raises(EmodartsError, match=refusal):
        of_command(*given)


def test_common_classes_are_those_that_all_corpora_have():
    joined = of_command("train_corpora=[emodb,savee]", "extra_tests=[enterface05]", "corpus.class_set=common")
    listed = ["train_corpora=[emodb,savee]", "extra_tests=[enterface05]"]
    assert joined.corpus.class_set == "angry,disgusted,fearful,happy,sad"
    same = of_command(*listed, f"corpus.class_set='{joined.corpus.class_set}'")
    assert joined.sweep_name == same.sweep_name
    with pytest.raises(EmodartsError, match="fewer than two classes are in all corpora"):
        of_command("train_corpora=[thorsten_emotional,emodb]", "extra_tests=[mess,turev_db]", "corpus.class_set=common")


@pytest.mark.slow
def test_sampling_and_loss_weights_change_a_sweep_and_their_defaults_do_not():
    plain = of_command("train_corpora=[emodb,savee]").sweep_name
    assert of_command("train_corpora=[emodb,savee]", "batches.sampling=utterance").sweep_name == plain
    for choice in ("batches.sampling=corpus", "batches.sampling=square_root", "batches.loss_weights=class_and_corpus"):
        assert of_command("train_corpora=[emodb,savee]", choice).sweep_name != plain
