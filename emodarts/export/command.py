"""The arguments of `emodarts export`."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`<results> --out FOLDER [--ensemble | --fold K] [--top K] [--refit] [--system NAME] [--root PATH]`."""
    parser.add_argument("results", help="a results folder with one sweep, or a sweep's folder below it")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder for the model")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ensemble", action="store_true", help="the mean of the winners of all folds (default)")
    which.add_argument("--fold", type=int, metavar="K", help="the winner of one fold")
    parser.add_argument(
        "--top", type=int, default=1, metavar="K", help="the K best trials on dev of each fold, averaged (default: 1)"
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="one network, trained on all data: the winner of --fold, else the best on dev; it has no test figure",
    )
    parser.add_argument("--sweep", help="which sweep, where the folder holds several")
    parser.add_argument("--system", metavar="NAME", help="which system, if the sweep has several; A,B: both, averaged")
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="the corpus's folder (default: $EMODARTS_CORPORA/<corpus>); once for each where the sweep has several",
    )
    parser.add_argument("--grammar", action="append", default=[], metavar="FILE", help="the grammar of your own corpus")
    parser.add_argument("--protocol", metavar="FILE", help="the split, where the sweep had one of your own")
    parser.add_argument("--device", default="cpu", help="to train on: cpu (default; the same bits again) or cuda")
    parser.add_argument("--threads", type=int, default=1, help="to train with on a CPU (default: 1, as a sweep does)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from emodarts.export.export import export_model  # what a command needs is imported when it runs

    export_model(options)
