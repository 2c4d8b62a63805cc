"""Agreement of two labellings of the same tokens."""

import numpy as np

from rolewise.core.role import Role


def confusion_matrix(first_N: np.ndarray, second_N: np.ndarray) -> np.ndarray:
    """Count tokens by their roles in two labellings.

    Args:
        first_N: `Role` values of the first labelling, shape (N,).
        second_N: `Role` values of the second labelling, shape (N,).

    Returns:
        int64, shape (roles, roles): rows are the first labelling's roles, columns the second's.
    """
    n = len(Role)
    matrix: np.ndarray = np.bincount(first_N.astype(np.int64) * n + second_N, minlength=n * n).reshape(n, n)
    return matrix


def cohen_kappa(matrix: np.ndarray) -> float:
    """Return Cohen's κ = (p_o − p_e) / (1 − p_e) of a square confusion matrix (Cohen 1960, equation 1).

    p_o is the share of tokens on which both agree, p_e the share on which two independent labellings with these margins
    would agree. The result is NaN if p_e is 1 or there are no tokens, because agreement is undefined then.
    """
    total = matrix.sum()
    if not total:
        return float("nan")
    observed = np.trace(matrix) / total
    expected = float(matrix.sum(axis=1) @ matrix.sum(axis=0)) / float(total) ** 2
    return float((observed - expected) / (1 - expected)) if expected < 1 else float("nan")


def group_kappas(matrix: np.ndarray) -> dict[Role, float]:
    """Return κ of each role group that occurs, against all other groups together; `Role.group` defines the groups.

    Args:
        matrix: result of `confusion_matrix`.
    """
    groups = [role.group for role in Role]
    found = {}
    for group in dict.fromkeys(groups):
        inside = np.array([member is group for member in groups])
        if matrix[inside].sum() or matrix[:, inside].sum():
            found[group] = cohen_kappa(_merged(matrix, inside))
    return found


def _merged(matrix: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the 2 × 2 matrix of one group of roles against the rest."""
    sides = np.stack([inside, ~inside]).astype(np.int64)
    merged: np.ndarray = sides @ matrix @ sides.T
    return merged
