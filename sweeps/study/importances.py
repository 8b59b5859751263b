"""How much of a study's spread in dev UAR each hyperparameter explains."""

import warnings

import optuna

from sweeps.study.search_space import SearchSpace

_MIN_TRIALS = 4  # complete ones; fewer say nothing


def fanova_importances(study: optuna.Study, space: SearchSpace, seed: int) -> dict[str, float]:
    """The importance of each dimension that every trial has (fANOVA, Hutter et al. 2014), for the first objective.

    Empty for studies with fewer than 4 complete trials, equal values, or nothing that varies.
    """
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    names = [n for n in space.free if all(n in t.params for t in complete) and len({t.params[n] for t in complete}) > 1]
    if len(complete) < _MIN_TRIALS or not names or len({t.values[0] for t in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importances = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed),
            params=names,
            target=lambda trial: trial.values[0],
        )
    return {name: float(value) for name, value in importances.items()}
