"""Learning rates of the study of baselines, which `acdit study baselines-settings` chooses."""

# By data and arm. Those of mnist are not chosen yet, since the study of the choice has not been run on it:
# they are the rate of its other studies.
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
