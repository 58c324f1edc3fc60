"""`acdit sample`: generate images, videos or texts. Its options are in sample_images.py and so on."""

from .command import ModalityCommand, run_import_string
from .model_options import ModelOptions
from .sample_images import ImageSampleOptions


def run(import_string: str, options: ModelOptions) -> None:
    """Generate samples, on the first rank alone unless the ranks share a set of images."""
    from ..utils.ranks import launched

    shared = isinstance(options, ImageSampleOptions) and options.count is not None
    if shared or launched().main:
        run_import_string(import_string, options)


COMMAND = ModalityCommand(
    name="sample",
    summary="generate samples",
    brief="acdit sample --labels 3,1,4",
    example="acdit sample --labels 3,1,4 --block 4x4 --out digits.png",
    run=run,
)
