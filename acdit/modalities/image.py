"""Image modality: squares of pixels or of latent cells."""

from .modality import Modality

IMAGE = Modality(
    name="image",
    samples="images",
    many="images",
    hub_task="unconditional-image-generation",
    model="mnist",
    length_key=None,
    axes=2,
    patch_axes=2,
    block_rule="must be HEIGHTxWIDTH, such as 4x4",
    values_key="in_channels",
    time_conditioning=True,
    unused_keys=(*Modality.unused_keys, "data.frame_stride", "data.short_clips"),
    other_networks=("CausalTokenDiffusion",),
    not_encoded=("frame_stride", "short_clips"),
    open_data="acdit.data.opening:open_images",
    inspect_data="acdit.training.inspection:inspect_pixels",
    objective="diffusion",
    noise="continuous",
    pipeline="acdit.pipelines.image:ACDiTImagePipeline",
    export="acdit.training.export:image_pipeline",
    preview="acdit.training.previews:save_images",
    save_converted="acdit.published.convert:save_image_pipeline",
    sample_options="acdit.cli.sample_images:ImageSampleOptions",
    sample="acdit.cli.sample_images:run",
    evaluate_options="acdit.cli.evaluate_images:ImageEvaluateOptions",
    evaluate="acdit.cli.evaluate_images:run",
)
