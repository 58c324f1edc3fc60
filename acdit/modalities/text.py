"""Text modality: sequences of token ids."""

from .modality import Modality

TEXT = Modality(
    name="text",
    samples="texts",
    many="text",
    model="shakespeare",
    length_key="tokens",
    axes=1,
    patch_axes=0,
    block_rule="of texts (data.tokens) must be a number of tokens, such as 16",
    values_key="vocab_size",
    time_conditioning=False,
    guided=False,
    vocabulary=("vocabulary", "vocab_size"),
    unused_keys=(
        "autoencoder.model",
        "classifier.*",
        "data.labels_per_class",
        "data.validation_fraction",
        "diffusion.context_noise",
        "diffusion.min_snr",
        "diffusion.timesteps",
    ),
    single_file=True,
    open_data="acdit.data.opening:open_tokens",
    inspect_data="acdit.training.inspection:inspect_texts",
    objective="diffusion",
    noise="masked",
    pipeline="acdit.pipelines.text:ACDiTTextPipeline",
    export="acdit.training.export:text_pipeline",
    preview="acdit.training.previews:save_texts",
    sample_options="acdit.cli.sample_text:TextSampleOptions",
    sample="acdit.cli.sample_text:run",
    evaluate_options="acdit.cli.evaluate_text:TextEvaluateOptions",
    evaluate="acdit.cli.evaluate_text:run",
)
