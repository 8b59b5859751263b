"""Between Hydra's configuration and `Settings`: its schema, the groups that a command calls for, the checked result."""

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emodarts.corpora.arguments import OWN_GRAMMAR, with_grammar_files
from emodarts.corpora.labels import COMMON, common_classes
from emodarts.corpora.readers import corpus_names, describe
from emodarts.errors import EmodartsError
from sweeps.hydra_errors import format_omegaconf_error
from sweeps.settings import JOINED, Settings, flatten

_CONF = Path(__file__).parent / "conf"
_BUNDLE_GROUPS = ("wavlm", "wav2vec2", "hubert")  # of sweeps/conf/features


def register_schema() -> None:
    """Make `Settings` the schema that Hydra checks the configuration against, and each corpus a file of its group."""
    store = ConfigStore.instance()
    store.store(name="schema", node=_schema())
    for name in (*corpus_names(), OWN_GRAMMAR):
        if not (_CONF / "corpus" / f"{name}.yaml").is_file():
            store.store(group="corpus", name=name, node={"name": name})


def with_chosen_groups(config: DictConfig) -> DictConfig:
    """The configuration of the running command with the groups that `train_corpora` and `features.model` call for.

    The `corpus` group that is there by default is the demo corpus's, whose budget is one of minutes: it must not stay
    beside other corpora. One corpus takes its own group, several take `joined`; a group on the command line stays. With
    a model of transformers, the layers that `features=wavlm` has of its bundle of torchaudio do not count. Raises
    EmodartsError for an unknown corpus.
    """
    names, hydra = list(config.matrix or config.train_corpora), HydraConfig.get()
    overrides = list(hydra.overrides.task)
    chosen = overrides
    if config.features.model is not None:
        bundles = [f"features={name}" for name in _BUNDLE_GROUPS]
        chosen = ["features=encoder" if text.lstrip("+~") in bundles else text for text in overrides]
    if names and not any(text.partition("=")[0].lstrip("+~") == "corpus" for text in overrides):
        for name in names:
            describe(name)
        chosen = [*chosen, *with_grammar_files([f"corpus={JOINED if config.matrix or names[1:] else names[0]}"])]
    return config if chosen == overrides else compose(hydra.job.config_name, chosen)


def known_settings() -> list[str]:
    """The names of all settings, `search.nodes`."""
    return [name for name, _ in flatten(asdict(Settings()))]


def from_hydra(config: DictConfig) -> Settings:
    """The checked settings of a composed configuration. Raises EmodartsError for what does not belong there."""
    try:
        plain = OmegaConf.to_container(config, resolve=True)
        settings = OmegaConf.to_object(OmegaConf.merge(_schema(), plain))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, EmodartsError):
            raise error.__cause__ from None
        raise EmodartsError(format_omegaconf_error(error, known_settings())) from error
    assert isinstance(settings, Settings)
    if len(settings.train_corpora) == 1:  # the sweep of that corpus, under the same name
        root = settings.corpus.root or settings.roots.get(settings.corpus.short_name)
        settings = replace(settings, train_corpora=[], corpus=replace(settings.corpus, root=root))
    if settings.protocol is not None:
        settings = replace(settings, corpus=replace(settings.corpus, protocol=settings.protocol), protocol=None)
    if settings.corpus.class_set.strip().lower() != COMMON:
        return settings
    names = [*(settings.train_corpora or settings.matrix or [settings.corpus.name]), *settings.extra_tests]
    return replace(settings, corpus=replace(settings.corpus, class_set=common_classes(names)))


@cache
def _schema() -> DictConfig:
    schema = OmegaConf.structured(Settings)
    _writable(schema)
    # Their keys are the user's: corpus.columns.label=mood, roots.emodb=/data/emodb
    schema.corpus.columns._set_flag("struct", False)
    schema.roots._set_flag("struct", False)
    return schema


def _writable(node: Any) -> None:
    # OmegaConf makes read-only nodes of frozen dataclasses, and those refuse every override.
    node._set_flag("readonly", None)
    if isinstance(node, DictConfig) and not node._is_none():
        for key in node:
            child = node._get_node(key)
            if isinstance(child, DictConfig | ListConfig):
                _writable(child)
