"""Settings of the study of understanding, which `acdit study understanding-settings` chooses."""

from .understanding_runs import Settings

# By arm and labels per class. Bidirectional attention and noised input take the settings of their arm.
CHOSEN: dict[tuple[str, int], Settings] = {
    ("fine-tuned", 10): Settings(4e-3, 600, True),
    ("fine-tuned", 50): Settings(4e-3, 800, True),
    ("fine-tuned", 400): Settings(4e-3, 1800, True),
    ("from scratch", 10): Settings(4e-3, 600, True),
    ("from scratch", 50): Settings(4e-3, 800, True),
    ("from scratch", 400): Settings(4e-3, 1800, True),
}
# Of the larger generator of the package, for which nothing was chosen: the central candidate.
SHIPPED_SETTINGS = Settings(4e-3, 900, True)
