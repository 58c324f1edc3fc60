"""Learning rates of the study of baselines, which `acdit study baselines-settings` chooses."""

# By data and arm. Not chosen yet, since the study of the choice has not been run: that of the other studies.
CHOSEN: dict[str, dict[str, float]] = {
    "digits": {
        "ACDiT": 3e-3,
        "full-sequence DiT": 3e-3,
        "token-wise autoregression": 3e-3,
        "noised past": 3e-3,
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
