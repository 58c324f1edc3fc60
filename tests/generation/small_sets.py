"""Small sets of samples for tests: begun, and the files of a folder."""

from pathlib import Path

from acdit.generation.batches import Sampling
from acdit.generation.sample_sets import SampleSet, SetPlan
from acdit.pipelines.folders import pipeline_folder
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline


def begun(model: str, out: Path, rank: int = 0, ranks: int = 2) -> SampleSet:
    """A set of which one rank has drawn its parts: what a stop in the middle leaves."""
    pipeline = load_pipeline(model, kind=ACDiTImagePipeline)
    plan = SetPlan(20, Sampling(batch=8, steps=2))
    samples = SampleSet(pipeline, pipeline_folder(model), out, plan)
    samples.pipeline.set_progress_bar_config(disable=True)
    samples.draw(rank, ranks)
    return samples


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
