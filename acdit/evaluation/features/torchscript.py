"""Features of clips by a TorchScript file, such as I3D."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...model.layout import dims
from ...utils.errors import UserError
from .extractor import FeatureExtractor

I3D_EDGE = 224  # what I3D was trained on
I3D_FRAMES = 10  # fewer leave nothing behind its strides


def torchscript_features(path: Path, device: torch.device) -> FeatureExtractor:
    """Features of clips (N, C, F, H, W) in [-1, 1] by a TorchScript file.

    The usual one of I3D is called as `network(video, rescale=False, resize=False, return_features=True)`,
    with colour video (N, 3, F, 224, 224); one that knows no `return_features` as `network(clips)`.

    Such a file is a program that runs with your rights: load only what you trust.

    Raises:
        UserError: if it cannot be loaded; of the features, if it cannot take the clips.
    """
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as fault:
        raise UserError(f"{path} cannot be loaded as TorchScript: {str(fault).splitlines()[0]}") from fault

    usual = any(argument.name == "return_features" for argument in network.forward.schema.arguments)

    @torch.inference_mode()
    def features(clips: Tensor) -> Tensor:
        if usual and clips.shape[2] < I3D_FRAMES:
            raise UserError(f"I3D needs clips of at least {I3D_FRAMES} frames, not {clips.shape[2]}")
        found = []
        for part in clips.to(device).split(8):
            try:
                if usual:
                    answer = network(_for_i3d(part), rescale=False, resize=False, return_features=True)
                else:
                    answer = network(part)
            except RuntimeError as fault:
                reason = str(fault).strip().splitlines()[-1]
                raise UserError(f"{path} cannot take clips of {dims(part.shape[1:])}: {reason}") from fault
            found.append(answer.flatten(1).float().cpu())
        return torch.cat(found)

    return features


def _for_i3d(clips: Tensor) -> Tensor:
    """In colour, at the size that it was trained on: (N, 3, F, 224, 224)."""
    frames = clips.expand(-1, 3, -1, -1, -1).transpose(1, 2).flatten(0, 1)
    scaled = interpolate(frames, (I3D_EDGE, I3D_EDGE), mode="bilinear", align_corners=False)
    return scaled.unflatten(0, (len(clips), -1)).transpose(1, 2)
