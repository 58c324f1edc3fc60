"""Mistakes in how samples are read and their features are shared, and in references."""

from .kinds import mutant

SAMPLES = [
    mutant(
        "every rank reads all batches",
        "evaluation/samples.py",
        "with self.opened() as read: for first in range(rank * size, len(self), ranks * size):",
        "with self.opened() as read:\n            for first in range(0, len(self), size):",
        "evaluation/test_sample_sources.py",
    ),
    mutant(
        "rows that are skipped are not read past",
        "utils/array_files.py",
        "while position < number:",
        "while position < 0:",
        "evaluation/test_sample_sources.py",
    ),
    mutant(
        "pickled arrays are not refused by name",
        "utils/array_files.py",
        "if dtype.hasobject:",
        "if False:",
        "evaluation/test_sample_sources.py",
    ),
    mutant(
        "colour becomes grey unasked",
        "evaluation/channels.py",
        "if not self._to_grey:",
        "if False:",
        "evaluation/test_sample_sources.py",
    ),
    mutant(
        "files that cannot be read keep their rows in features",
        "evaluation/extraction.py",
        "kept = None if read.all() else read.bool()",
        "kept = None",
        "evaluation/test_extraction.py",
    ),
    mutant(
        "cached features of another resizing are taken",
        "evaluation/references.py",
        "list(samples.shape), extractor.info.to_json()]",
        "list(samples.shape), extractor.info.name]",
        "evaluation/test_references.py",
    ),
    mutant(
        "statistics of other features are compared",
        "evaluation/stored_reference.py",
        'different = [key for key in own if own[key] != other[key] and key != "licence"]',
        'different = [key for key in own if own[key] != other[key] and key == "name"]',
        "evaluation/test_references.py",
    ),
    mutant(
        "a covariance need not be symmetric",
        "evaluation/stored_reference.py",
        "if float((matrix - matrix.T).abs().max()) > ASYMMETRY * largest:",
        "if float((matrix - matrix.T).abs().max()) > 1e9 * largest:",
        "evaluation/test_references.py",
    ),
]
