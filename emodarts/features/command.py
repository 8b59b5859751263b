"""`emodarts features`: build, list and delete feature stores."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from emodarts.corpora.arguments import add_corpus_arguments, corpus_settings, with_overrides
from emodarts.errors import EmodartsError
from emodarts.processors import check_device

if TYPE_CHECKING:
    from rich.console import Console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`emodarts features <corpus> --root PATH [...]`, `--list`, `--delete NAME`."""
    add_corpus_arguments(parser, optional=True)
    parser.add_argument("--processes", type=int, help="how many extract (default: as many as are worth their start)")
    parser.add_argument("--device", default="cpu", help="where a pre-trained encoder runs: cpu (default) or cuda")
    parser.add_argument("--list", action="store_true", help="list the stores in the cache")
    parser.add_argument("--delete", metavar="NAME", help="delete a store of the list, or all that are `unfinished`")
    parser.set_defaults(run=run, stopped="stopped; what is finished is kept")


def run(options: argparse.Namespace) -> None:
    """Do what the options say. Raises EmodartsError."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=False)
    if sum([options.corpus is not None, options.list, options.delete is not None]) != 1:
        raise EmodartsError("say what to do: `emodarts features <corpus>`, or --list, or --delete NAME")
    if options.list:
        _list(console)
    elif options.delete is not None:
        _delete(console, options.delete)
    else:
        _build(console, options)


def _build(console: "Console", options: argparse.Namespace) -> None:
    from emodarts import corpora
    from emodarts.console import print_logs, progress_bar
    from emodarts.features.settings import FeatureSettings
    from emodarts.features.store.building import build_store

    settings = with_overrides(FeatureSettings(), "features", options.set)
    check_device(options.device)
    if options.processes is not None and options.processes < 1:
        raise EmodartsError(f"--processes {options.processes}: give 1 or more")
    started = time.monotonic()
    with print_logs(console):
        corpus = corpora.read(corpus_settings(options))
        with progress_bar(console, "features", corpus.utterances.num_rows) as progress:
            store = build_store(
                corpus.utterances, corpus.root, settings, _cache(), options.device, options.processes, progress
            )
    console.print(f"{store.folder}")
    dropped = f", {len(store.dropped)} dropped" if store.dropped else ""
    console.print(f"{len(store.utterances)} utterances{dropped}, {time.monotonic() - started:.1f} s")
    for row in store.dropped[:10]:
        console.print(f"  {row.path}: {row.reason}")
    if len(store.dropped) > 10:
        console.print(f"  and {len(store.dropped) - 10} more; store.json has all")


def _list(console: "Console") -> None:
    from rich.table import Table

    from emodarts.features.store.files import format_bytes
    from emodarts.features.store.inventory import list_stores

    stores = list_stores(_cache())
    if not stores:
        console.print(f"no feature stores in {_cache()}")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("store", "corpus", "settings", "utterances", "size", "state"):
        table.add_column(
            name, no_wrap=name not in ("settings", "state"), overflow="fold"
        )  # names are there to be copied
    for store in stores:
        count = "" if store.utterances is None else str(store.utterances)
        table.add_row(store.folder.name, store.corpus, store.settings, count, format_bytes(store.bytes), store.state)
    console.print(f"in {_cache()}:")
    console.print(table)


def _delete(console: "Console", name: str) -> None:
    from emodarts.features.store.files import format_bytes
    from emodarts.features.store.inventory import delete_stores

    deleted = delete_stores(_cache(), name)
    for store in deleted:
        console.print(f"deleted {store.folder.name} ({format_bytes(store.bytes)})")
    if not deleted:
        console.print(f"nothing {name} to delete in {_cache()}")


def _cache() -> Path:
    from emodarts import corpora

    return corpora.cache_folder() / "features"
