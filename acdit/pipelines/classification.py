"""ACDiTImageClassificationPipeline: the class of images, with scores (section 5.1)."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from ..data.autoencoders import encode
from ..diffusion.classification import noise_process, noised_input
from ..model.classifier import ACDiTForImageClassification
from ..model.layout import Layout
from ..utils.checks import is_integer
from ..utils.errors import UserError
from ..utils.finite import check_finite
from .input_images import square_pixels
from .pixel_model import PixelModel, checked_scale_factor
from .stored import checked_settings
from .stored_pipeline import FORMAT_VERSION, check_format


class Prediction(TypedDict):
    """Class of an image, and its probability."""

    label: str
    score: float


@dataclass
class ACDiTImageClassificationPipelineOutput(BaseOutput):
    """Output of the classification pipeline.

    Attributes:
        predictions: for every image the most probable classes, the best first.
        logits: logits of every head, (N, heads, classes).
    """

    predictions: list[list[Prediction]]
    logits: Tensor


class ACDiTImageClassificationPipeline(PixelModel):
    """Pipeline that recognises the class of images with the network of a generator.

    Args:
        classifier: the network.
        vae: any diffusers autoencoder; None = the network works on pixels. Its latents are the means.
        grid: tokens of the layout along each axis, (h, w); see `Layout`.
        block: tokens of a block along each axis, (h, w).
        patch: size of a token along each axis, (h, w), in pixels, or in latent cells if there is a vae.
        id2label: class names by class id.
        vae_scale_factor: side of a latent cell in pixels, for a model that is stored without its autoencoder.
        format_version: version of the format of saved pipelines.
        data_source: name of the data set that the network was trained on; None = not recorded.

    Example:
        ```python
        import acdit

        pipe = acdit.load_pipeline("mnist-classifier", kind=acdit.ACDiTImageClassificationPipeline)
        three = acdit.load_pipeline("mnist")(class_labels=3, num_inference_steps=8).images[0]
        print(pipe(three, top_k=2).predictions[0])
        ```
    """

    network_name = "classifier"
    model_cpu_offload_seq = "vae->classifier"
    _optional_components = ["vae"]

    classifier: ACDiTForImageClassification

    def __init__(
        self,
        classifier: ACDiTForImageClassification,
        vae: Any = None,
        grid: list[int] | tuple[int, ...] | None = None,  # types that diffusers can check when it loads
        block: list[int] | tuple[int, ...] | None = None,
        patch: list[int] | tuple[int, ...] | None = None,
        id2label: dict[int, str] | dict[str, str] | None = None,
        vae_scale_factor: int = 1,
        format_version: int = FORMAT_VERSION,
        data_source: str | None = None,
    ):
        super().__init__()
        check_format(format_version)
        self._check_layout(grid=grid, block=block, patch=patch)
        layout = Layout(tuple(grid or ()), tuple(block or ()), tuple(patch or ()))
        names = {str(index): name for index, name in (id2label or {}).items()}
        channels, rest = divmod(classifier.config["in_channels"], layout.patch_elements)
        _check_fit(classifier, layout, names, rest)
        vae_scale_factor = checked_scale_factor(vae, channels, vae_scale_factor)
        settings = checked_settings(
            id2label=names, vae_scale_factor=vae_scale_factor, data_source=data_source
        )
        self.register_modules(classifier=classifier, vae=vae)
        self.register_to_config(
            grid=layout.grid,
            block=layout.block,
            patch=layout.patch,
            format_version=format_version,
            **settings,
        )
        self.vae_scale_factor = vae_scale_factor

    @property
    def num_labels(self) -> int:
        """Return the number of classes."""
        return self.classifier.config["num_labels"]

    @property
    def side(self) -> int:
        """Return the side of an image in pixels."""
        return self.layout.size[-1] * self.vae_scale_factor

    @torch.no_grad()
    def __call__(self, image: Any, top_k: int = 5, head: int = -1, return_dict: bool = True) -> Any:
        """Recognise images.

        Args:
            image: one image or several: PIL images, arrays ([N,] H, W, C) or tensors ([N,] C, H, W) in
                [0, 1], or a list of them. Images of another size are resized and cropped to the central
                square, and those of another mode converted, as in training.
            top_k: number of classes that are returned for each image; at most all.
            head: head whose scores are returned, for networks with probes.
            return_dict: whether to return an output object in place of the tuple (predictions, logits).

        Returns:
            An `ACDiTImageClassificationPipelineOutput`, or a tuple if `return_dict` is false.

        Raises:
            UserError: if an image cannot be read, or an argument is out of range.
        """
        self.check_inputs(top_k, head)
        logits = self.logits(square_pixels(image, "image", self.side, self.pixel_channels))
        predictions = self.predictions(logits, top_k, head)
        self.maybe_free_model_hooks()
        if not return_dict:
            return predictions, logits
        return ACDiTImageClassificationPipelineOutput(predictions, logits)

    def check_inputs(self, top_k: int, head: int) -> None:
        """Check arguments of a call that do not depend on the images.

        Raises:
            UserError: if an argument is out of range, or the autoencoder is missing.
        """
        if self.vae is None and self.vae_scale_factor > 1:
            raise UserError(
                "the model reads latents and was saved without its autoencoder: pass vae= to from_pretrained"
            )
        if not is_integer(top_k) or top_k < 1:
            raise UserError(f"top_k must be a whole number of at least 1, not {top_k}")
        layers = self.classifier.layers
        if not is_integer(head) or not -len(layers) <= head < len(layers):
            raise UserError(
                f"head must lie in {-len(layers)}..{len(layers) - 1} (heads at the layers "
                f"{', '.join(map(str, layers))}), not {head}"
            )

    @torch.no_grad()
    def logits(self, pixels: Tensor, timestep: float | None = None) -> Tensor:
        """Return the logits of images of the model's size, (N, heads, classes).

        Args:
            pixels: images (N, C, H, W) in [-1, 1].
            timestep: timestep of noised input in place of the network's own, see `noised_input`.

        Raises:
            UserError: if they are not finite.
        """
        device, dtype = self._execution_device, self.classifier.dtype
        data = pixels.to(device)
        if self.vae is not None:
            data, _ = encode(self.vae, data)  # (N, C, h, w)
        blocks = self.layout.to_blocks(data.to(dtype))
        data = noised_input(self.classifier, blocks, timestep=timestep)
        logits = self.classifier(data, layout=self.layout, timestep=timestep).logits
        check_finite(
            {"the logits": logits},
            "the scores of the model",
            "use dtype float32, or another checkpoint",
        )
        return logits

    def predictions(self, logits: Tensor, top_k: int, head: int = -1) -> list[list[Prediction]]:
        """Return the most probable classes of every image, the best first.

        Args:
            logits: logits of every head, (N, heads, classes).
            top_k: number of classes; at most all.
            head: head whose scores are returned.
        """
        names, scores = self.label_names, logits[:, head].float().softmax(-1)
        best = scores.topk(min(top_k, scores.shape[-1]))
        return [
            [
                {"label": names.get(index) or str(index), "score": score}
                for score, index in zip(values, indices, strict=True)
            ]
            for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def _check_fit(
    classifier: ACDiTForImageClassification, layout: Layout, names: Mapping[str, str], rest: int
) -> None:
    """Raise UserError unless a layout and names of classes are those of a classifier."""
    classes = classifier.config["num_labels"]
    if names and set(names) != {str(index) for index in range(classes)}:
        raise UserError(
            f"id2label must name the {classes} classes of the network, 0..{classes - 1}, but it names "
            f"{len(names)}: {textwrap.shorten(', '.join(names), 60, placeholder=' ..')}"
        )
    if layout.axes != 2 or layout.size[0] != layout.size[1] or rest:
        raise UserError(
            f"a classifier needs square images and tokens of {classifier.config['in_channels']} values, "
            f"not {layout}"
        )
    if noise_process(classifier) is not None and layout.num_blocks != 1:
        raise UserError(f"noised input is one block, but {layout} has {layout.num_blocks}")


for _public in (ACDiTImageClassificationPipeline, ACDiTImageClassificationPipelineOutput):
    _public.__module__ = "acdit"  # saved files name this module, so that the code can be moved
