"""Runs that are stopped at a step, and what of a unit's records has to be the same afterwards."""

from dataclasses import asdict, replace

import torch


class Stopped(Exception):
    """What ends a run in these tests."""


def without_times(records):
    """Everything but times and memory."""
    return (
        [asdict(g) for g in records.genotypes],
        [asdict(replace(e, seconds=0.0)) for e in records.epochs],
        [(e.stage, e.role, e.test_set, e.utterances, e.probabilities.tobytes()) for e in records.evaluations],
        (records.parameters, records.macs),
    )


class counting:
    """Counts the optimisers' steps (each clips its gradients first), and stops the run at one of them."""

    def __init__(self, steps, stop=None):
        self.steps, self.stop, self.original = steps, stop, torch.nn.utils.clip_grad_norm_

    def __enter__(self):
        def clip(*arguments, **options):
            self.steps["steps"] += 1
            if self.steps["steps"] == self.stop:
                raise Stopped
            return self.original(*arguments, **options)

        torch.nn.utils.clip_grad_norm_ = clip

    def __exit__(self, *exception):
        torch.nn.utils.clip_grad_norm_ = self.original
