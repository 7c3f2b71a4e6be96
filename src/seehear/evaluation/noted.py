"""What does scikit-learn warn of, and does it matter? What does becomes a line of the result."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noted() -> Iterator[list[str]]:
    """Keep scikit-learn's warnings from the terminal; the list that is given holds, afterwards,
    what matters of them.

    That classifiers stopped before they had converged matters. Warnings of others are shown as
    ever.
    """
    from sklearn.exceptions import ConvergenceWarning

    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", module=r"sklearn(\.|$)")
        warnings.filterwarnings("always", category=ConvergenceWarning)
        yield notes
    stopped = 0
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            stopped += 1
        elif "/sklearn/" not in warning.filename.replace("\\", "/"):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    if stopped:
        notes.append(
            f"{stopped} fits of linear classifiers, of all strengths and parts, stopped at their "
            f"limit of steps before "
            f"they had converged"
        )
