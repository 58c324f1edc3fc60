"""Video modality: clips of square frames of pixels or of latent cells."""

from .modality import Modality

VIDEO = Modality(
    name="video",
    samples="clips",
    many="video",
    hub_task="video-to-video",
    model="moving-digits",
    length_key="frames",
    axes=3,
    patch_axes=2,
    block_rule="of clips (data.frames) must be FRAMESxHEIGHTxWIDTH, such as 4x16x16",
    values_key="in_channels",
    time_conditioning=True,
    other_networks=("CausalTokenDiffusion",),
    open_data="acdit.data.opening:open_clips",
    inspect_data="acdit.training.inspection:inspect_pixels",
    objective="diffusion",
    noise="continuous",
    pipeline="acdit.pipelines.video:ACDiTVideoPipeline",
    export="acdit.training.export:video_pipeline",
    preview="acdit.training.previews:save_clips",
    save_converted="acdit.published.convert:save_video_parts",
    sample_options="acdit.cli.sample_video:VideoSampleOptions",
    sample="acdit.cli.sample_video:run",
    evaluate_options="acdit.cli.evaluate_video:VideoEvaluateOptions",
    evaluate="acdit.cli.evaluate_video:run",
)
