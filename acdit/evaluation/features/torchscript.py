"""Features of clips from a TorchScript file, such as I3D."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...model.layout import dims
from ...utils.errors import UserError
from ...utils.untrusted import check_file, reading
from .extractor import FeatureFunction, checked_features

ZIP = b"PK\x03\x04"  # first bytes of a TorchScript file
I3D_SIDE = 224  # side of the frames that I3D was trained on
I3D_FRAMES = 10  # with fewer frames, nothing is left after its strides


def torchscript_features(path: Path, device: torch.device) -> FeatureFunction:
    """Return a function that computes features of clips (N, C, F, H, W) in [-1, 1] with a TorchScript file.

    The usual file of I3D is called as `network(video, rescale=False, resize=False, return_features=True)`,
    with colour video (N, 3, F, 224, 224). A file without the argument `return_features` is called as
    `network(clips)`.

    A TorchScript file is a program that runs with your rights: load only files that you trust.

    Raises:
        UserError: if the file cannot be loaded. The returned function raises it for clips that the network
            does not support, and for an answer that is not one row of finite features for each clip.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            if file.read(len(ZIP)) != ZIP:
                raise UserError("it is not a file of torch.jit.save")
        with reading(path):
            network = torch.jit.load(str(path), map_location=device).eval()
            arguments = network.forward.schema.arguments
    except UserError as fault:
        cause = fault.__cause__
        reason = str(cause).splitlines()[0] if isinstance(cause, RuntimeError) and str(cause) else str(fault)
        raise UserError(f"{path} cannot be loaded as TorchScript: {reason}") from fault
    widths: dict[tuple[int, ...], int] = {}  # number of features by the shape of a clip

    is_i3d = any(argument.name == "return_features" for argument in arguments)

    @torch.inference_mode()
    def features(clips: Tensor) -> Tensor:
        if is_i3d and clips.shape[2] < I3D_FRAMES:
            raise UserError(f"I3D needs clips of at least {I3D_FRAMES} frames, not {clips.shape[2]}")
        outputs: list[Tensor] = []
        for part in clips.to(device).split(8):
            try:
                if is_i3d:
                    output = network(_for_i3d(part), rescale=False, resize=False, return_features=True)
                else:
                    output = network(part)
            except (RuntimeError, TypeError, ValueError) as fault:  # of the program, or of its arguments
                reason = str(fault).strip().splitlines()[-1]
                raise UserError(f"{path} cannot take clips of {dims(part.shape[1:])}: {reason}") from fault
            shape = tuple(part.shape[1:])
            outputs.append(checked_features(output, str(path), len(part), widths.get(shape)))
            widths[shape] = outputs[-1].shape[1]
        return torch.cat(outputs)

    return features


def _for_i3d(clips: Tensor) -> Tensor:
    """Convert clips to colour and to the size that I3D was trained on: (N, 3, F, 224, 224)."""
    frames = clips.expand(-1, 3, -1, -1, -1).transpose(1, 2).flatten(0, 1)
    scaled = interpolate(frames, (I3D_SIDE, I3D_SIDE), mode="bilinear", align_corners=False)
    return scaled.unflatten(0, (len(clips), -1)).transpose(1, 2)
