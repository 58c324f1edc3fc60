"""Mistakes of feature extractors."""

from .kinds import mutant

TESTS = "evaluation/features"

FEATURES = [
    mutant(
        "samples cut off to 8 bits instead of rounded",
        "evaluation/features/image_network.py",
        ".mul(127.5).round_()",
        ".mul(127.5).floor_()",
        f"{TESTS}/test_image_networks.py::test_rounding_is_to_the_nearest_of_256_values",
    ),
    mutant(
        "samples of another range scored",
        "evaluation/features/image_network.py",
        "if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):",
        "if low < -1e9:",
        f"{TESTS}/test_image_networks.py::test_other_samples_are_one_line",
    ),
    mutant(
        "resizing with aliasing",
        "evaluation/features/image_network.py",
        "antialias=True",
        "antialias=False",
        f"{TESTS}/test_image_networks.py::test_resizing_is_that_of_pillow",
    ),
    mutant(
        "overshoot of bicubic resizing kept",
        "evaluation/features/image_network.py",
        "scaled.clamp(0, 255).unflatten",
        "scaled.unflatten",
        f"{TESTS}/test_inception.py::test_bicubic_resizing_is_antialiased_and_clipped",
    ),
    mutant(
        "pixels of EfficientNet normalised as those of other networks",
        "evaluation/features/efficientnet.py",
        "MEAN, DEVIATION = 127.0, 128.0",
        "MEAN, DEVIATION = 120.0, 58.0",
        f"{TESTS}/test_image_networks.py::test_efficientnet_is_that_of_its_package",
    ),
    mutant(
        "Inception resizes as torch does",
        "evaluation/features/inception.py",
        "normalised(resize(pixels.float(), size=(SIDE, SIDE), align_corners=False))",
        "normalised(bicubic(pixels, SIDE))",
        f"{TESTS}/test_inception.py::test_features_and_inputs_are_those_of_torch_fidelity",
    ),
    mutant(
        "fetched weights not checked",
        "utils/downloads.py",
        "if not digest.hexdigest().startswith(sha256):",
        "if not sha256:",
        f"{TESTS}/test_inception.py::test_what_cannot_be_fetched_is_one_line_and_leaves_nothing",
    ),
    mutant(
        "untrusted programs run",
        "evaluation/features/table.py",
        "if program is not None and not trust:",
        "if program is None and not trust:",
        f"{TESTS}/test_table.py::test_a_program_runs_only_when_it_is_trusted",
    ),
    mutant(
        "images of vision transformers of the size before the crop",
        "evaluation/features/vision_transformer.py",
        'if values.get("do_center_crop") and "crop_size" in values else',
        "if False else",
        f"{TESTS}/test_vision_transformers.py::test_features_are_those_of_transformers",
    ),
]
