"""Classification modality: classes of images, recognised by the network of a generator."""

from .modality import Modality

CLASSIFICATION = Modality(
    name="classification",
    samples="images",
    many="image classification",
    model="mnist-classifier",
    length_key=None,
    axes=2,
    patch_axes=2,
    block_rule="must be HEIGHTxWIDTH, such as 4x4",
    values_key="in_channels",
    time_conditioning=False,
    guided=False,
    vocabulary=("classes", "num_labels"),
    unused_keys=(
        "diffusion.context_noise",
        "diffusion.draws",
        "diffusion.label_dropout",
        "diffusion.min_snr",
        "diffusion.timesteps",
        "diffusion.views",
        "model.time_conditioning",
        "sampling.guidance_scale",
        "sampling.scheduler",
        "sampling.steps",
    ),
    open_data="acdit.data.opening:open_images",
    inspect_data="acdit.training.inspection:inspect_pixels",
    noise="classes",
    objective="classification",
    network=("classifier", "ACDiTForImageClassification"),
    pipeline="acdit.pipelines.classification:ACDiTImageClassificationPipeline",
    export="acdit.training.export:classification_pipeline",
    preview="acdit.training.previews:save_classified",
)
