"""Learning rates of the study of baselines, which `acdit study baselines-settings` chooses."""

# Data on which the study of the choice has not been run: its rates are that of its other studies.
NOT_CHOSEN = frozenset({"mnist"})
# By data and arm.
CHOSEN: dict[str, dict[str, float]] = {
    "digits": {
        "ACDiT": 1.2e-2,
        "full-sequence DiT": 1.2e-2,
        "token-wise autoregression": 6e-3,
        "noised past": 6e-3,
        "per-token head": 3e-3,
    },
    "mnist": {
        "ACDiT": 2e-3,
        "full-sequence DiT": 2e-3,
        "token-wise autoregression": 2e-3,
        "noised past": 2e-3,
        "per-token head": 2e-3,
    },
}
