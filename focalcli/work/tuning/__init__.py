"""`focal tune`: short real runs over alpha, gamma, class strength and repeats, and whether the best is more than luck.

    Recipe -> Space (space.py) -> Work (study.py) -> Result (trials.py) -> Verdict (verdict.py)

search.py joins them, saving.py writes what they leave. The only folder that imports optuna.
"""

from focalcli.work.tuning.saving import save
from focalcli.work.tuning.search import Budget, Outcome, gpus, tune
from focalcli.work.tuning.study import OWN, Run, Study

__all__ = ["OWN", "Budget", "Outcome", "Run", "Study", "gpus", "save", "tune"]
