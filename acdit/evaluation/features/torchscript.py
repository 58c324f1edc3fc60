"""Features of samples from a TorchScript file, such as I3D."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...model.layout import dims
from ...utils.errors import UserError
from ...utils.files import file_digest
from ...utils.untrusted import check_file, reading
from .extractor import (
    ExtractorRequest,
    FeatureInfo,
    Features,
    checked_features,
    full_float32,
)
from .image_network import eight_bit

ZIP = b"PK\x03\x04"  # first bytes of a TorchScript file
I3D_SIDE = 224  # side of the frames that I3D was trained on
I3D_FRAMES = 10  # with fewer frames, nothing is left after its strides
BATCH = 8  # samples per call of the network


class TorchScriptFeatures:
    """Extractor that calls a TorchScript file.

    The usual file of I3D is called as `network(video, rescale=False, resize=False, return_features=True)`,
    with colour video (N, 3, F, 224, 224) that is rounded to 8 bits first, so that clips score as they do from
    files. A file without the argument `return_features` is called as `network(samples)`.

    A TorchScript file is a program that runs with your rights: load only files that you trust.

    Args:
        path: TorchScript file.
        device: device of the network.

    Attributes:
        is_i3d: whether the file is called as that of I3D.

    Raises:
        UserError: if the file cannot be loaded. A call raises it for samples that the network does not
            support, and for an answer that is not one row of finite features for each sample.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, path: Path, device: torch.device):
        self._path, self._device = path, device
        try:
            check_file(path)
            with path.open("rb") as file:
                if file.read(len(ZIP)) != ZIP:
                    raise UserError("it is not a file of torch.jit.save")
            with reading(path):
                self._network = torch.jit.load(str(path), map_location=device).eval()
                arguments = self._network.forward.schema.arguments
        except UserError as fault:
            cause = fault.__cause__
            torch_reason = isinstance(cause, RuntimeError) and str(cause)
            reason = str(cause).splitlines()[0] if torch_reason else str(fault)
            raise UserError(f"{path} cannot be loaded as TorchScript: {reason}") from fault
        self.is_i3d = any(argument.name == "return_features" for argument in arguments)
        described = ("torchscript", None, "none", "float32")
        if self.is_i3d:
            described = ("i3d", I3D_SIDE, "bilinear", "uint8")
        name, side, rule, pixels = described
        self.info = FeatureInfo(
            name, file_digest(path), side, rule, "float32", "that of the file", pixels=pixels
        )
        self._widths: dict[tuple[int, ...], int] = {}  # number of features by the shape of a sample

    @torch.inference_mode()
    @full_float32()
    def __call__(self, samples: Tensor, /) -> Features:
        """Return the features of samples in [-1, 1]; see `FeatureExtractor`."""
        shape = tuple(samples.shape[1:])
        if self.is_i3d:
            check_i3d(shape)
        parts: list[Tensor] = []
        for part in samples.to(self._device).split(BATCH):
            try:
                if self.is_i3d:
                    output = self._network(_for_i3d(part), rescale=False, resize=False, return_features=True)
                else:
                    output = self._network(part)
            except (RuntimeError, TypeError, ValueError) as fault:  # of the program, or of its arguments
                reason = str(fault).strip().splitlines()[-1]
                kind = "clips" if len(shape) == 4 else "images"
                raise UserError(f"{self._path} cannot take {kind} of {dims(shape)}: {reason}") from fault
            parts.append(checked_features(output, str(self._path), len(part), self._widths.get(shape)))
            self._widths[shape] = parts[-1].shape[1]
        return Features(torch.cat(parts))


def check_i3d(shape: tuple[int, ...]) -> None:
    """Raise UserError if I3D does not support samples of a shape, (C, F, H, W)."""
    if len(shape) != 4:
        raise UserError("I3D computes features of clips, not of images")
    if shape[0] not in (1, 3):
        raise UserError(f"I3D needs grey or RGB clips, not {shape[0]} channels")
    if shape[1] < I3D_FRAMES:
        raise UserError(f"I3D needs clips of at least {I3D_FRAMES} frames, not {shape[1]}")


def open_torchscript(request: ExtractorRequest) -> TorchScriptFeatures:
    """Return the extractor of a TorchScript file."""
    extractor = TorchScriptFeatures(Path(request.argument).expanduser(), request.device)
    if extractor.is_i3d:
        check_i3d(request.shape)
    return extractor


def open_i3d(request: ExtractorRequest) -> TorchScriptFeatures:
    """Return the extractor of the usual file of I3D; UserError if the file is called in another way."""
    check_i3d(request.shape)
    extractor = open_torchscript(request)
    if not extractor.is_i3d:
        raise UserError(
            f"{request.argument} is not the usual file of I3D, whose network has the argument "
            f"return_features; for another network, write torchscript:{request.argument}"
        )
    return extractor


def _for_i3d(clips: Tensor) -> Tensor:
    """Convert clips of 8 bits to colour and to the size that I3D was trained on: (N, 3, F, 224, 224)."""
    pixels = eight_bit(clips, "i3d").float() / 127.5 - 1
    frames = pixels.expand(-1, 3, -1, -1, -1).transpose(1, 2).flatten(0, 1)
    scaled = interpolate(frames, (I3D_SIDE, I3D_SIDE), mode="bilinear", align_corners=False)
    return scaled.unflatten(0, (len(clips), -1)).transpose(1, 2)
