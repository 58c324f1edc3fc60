"""`acdit sample`: generate images, videos or texts. Its options are in sample_images.py and so on."""

from .command import ModalityCommand

COMMAND = ModalityCommand(
    name="sample",
    summary="generate samples",
    brief="acdit sample --labels 3,1,4",
    example="acdit sample --labels 3,1,4 --block 4x4 --out digits.png",
)
