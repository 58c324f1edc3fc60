"""Samples that are drawn once: each has the seed of its number, in any batch on any rank."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.evaluation.evaluate import evaluate_samples
from acdit.evaluation.features.extractor import Features
from acdit.evaluation.features.pixels import Pixels
from acdit.evaluation.generated_samples import generated_clips, generated_images
from acdit.evaluation.sample_sources import check_modality, open_samples_of
from acdit.evaluation.samples import TensorSamples
from acdit.generation.batches import Sampling, clip_batch, draw_images
from acdit.media.videos import read_frames, video_file
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError
from tests.evaluation.test_sample_sources import read
from tests.pipelines.small import build, network
from tests.pipelines.test_video import build as build_video
from tests.tiny import relative_error

SAMPLING = Sampling(seed=5, batch=4, steps=2)


@pytest.mark.parametrize(("size", "ranks"), [(4, 1), (3, 2)])
def test_images_are_those_of_the_pipeline(size, ranks):
    pipeline, labels = build(network(4)), [0, 2, 1, 1, 0]
    samples = generated_images(pipeline, labels, SAMPLING, block=(2, 1))
    expected = draw_images(pipeline, labels, SAMPLING, block=(2, 1))
    assert relative_error(read(samples, size, ranks), 2 * expected.images - 1) < 1e-5
    assert samples.labels is not None and samples.labels.tolist() == labels
    assert samples.label_names == ("ant", "bee", "cow") and samples.seconds > 0
    assert (samples.evaluations, samples.cache_bytes) == (expected.evaluations, expected.cache_bytes)
    assert samples.describe()["seed"] == 5 and samples.describe()["count"] == 5
    check_modality(samples, "image")


def test_classes_of_a_saved_model_keep_their_order(tmp_path):
    names = {index: f"class {index}" for index in range(12) if index != 3}  # as text, 10 comes before 2
    build(network(4, num_classes=12), id2label=names).save_pretrained(tmp_path)
    samples = generated_images(load_pipeline(tmp_path, kind=ACDiTImagePipeline), [11, 2], SAMPLING)
    assert samples.label_names == tuple(names.get(index, "") for index in range(12))


def test_images_are_drawn_once():
    pipeline, calls = build(network(4)), []
    pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    samples = generated_images(pipeline, [0, 2, 1, 1, 0], SAMPLING)
    samples.draw(2)
    drawn, seconds = len(calls), samples.seconds
    assert drawn > 0
    first, again = read(samples, 2), read(samples, 2)
    assert len(calls) == drawn and torch.equal(first, again) and samples.seconds == seconds
    assert torch.equal(read(samples, 2, 2), first)  # the same batches of another number of ranks
    read(samples, 3)
    assert len(calls) > drawn  # other batches, which round otherwise


def test_data_that_cannot_be_scored_are_refused_before_images_are_drawn():
    pipeline, calls = build(network(4, num_classes=None)), []
    pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    samples = generated_images(pipeline, [None] * 3, SAMPLING)
    reference, huge = (TensorSamples(torch.zeros(1).expand(count, 1, 8, 8)) for count in (4, 10**11))
    with pytest.raises(UserError, match=r"features pixels of samples and real data, 100,000,000,007 items"):
        evaluate_samples(samples, reference, ["pixels"], ["copied_fraction"], training=huge)
    with pytest.raises(UserError, match=r"features wrong returns features that are not finite"):
        evaluate_samples(samples, reference, [Wrong()], ["frechet_distance"])
    assert not calls
    evaluate_samples(samples, reference, ["pixels"], ["frechet_distance"])
    assert calls


class Wrong(Pixels):
    """Features that are never finite."""

    info = replace(Pixels.info, name="wrong")

    def __call__(self, samples):
        return Features(samples.flatten(1) / 0)


def test_images_without_classes_have_no_labels():
    samples = generated_images(build(network(4, num_classes=None)), [None] * 3, SAMPLING)
    assert samples.labels is None and read(samples).shape == (3, 1, 8, 8)


def drawn(pipeline, labels, rows, **words):
    """Clips (N, C, F, H, W) in [-1, 1] of one call."""
    return 2 * clip_batch(pipeline, labels, rows, SAMPLING, **words).frames.transpose(1, 2) - 1


def test_clips_are_those_of_the_pipeline():
    pipeline, labels = build_video(), torch.tensor([2, 0, 1])
    given = torch.rand(3, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    words = {"given": lambda rows: given[rows], "num_frames": 10, "window": 1}
    samples = generated_clips(pipeline, labels.tolist(), SAMPLING, **words)
    expected = drawn(pipeline, labels.tolist(), range(3), **words)
    assert samples.shape == (1, 10, 8, 8) and relative_error(read(samples, 2), expected) < 1e-5
    plain = generated_clips(pipeline, [None, None], SAMPLING)
    assert relative_error(read(plain), drawn(pipeline, None, range(2))) < 1e-5
    assert plain.labels is None and plain.shape == (1, 6, 8, 8)


def test_video_files_are_read_as_they_are(tmp_path):
    for name, length in (("a.gif", 3), ("b.gif", 3)):
        with video_file(tmp_path / "clips" / name, 5) as writer:
            for frame in range(length):
                level = 40 * frame + 20 * (name == "b.gif")
                writer.add(Image.fromarray(np.full((8, 6), level, np.uint8)))
    samples = open_samples_of(str(tmp_path / "clips"))
    assert samples.shape == (3, 3, 8, 6) and len(samples) == 2
    levels = (read(samples)[:, 0, :, 0, 0] + 1) * 127.5
    assert torch.allclose(levels, torch.tensor([[0.0, 40, 80], [20, 60, 100]]), atol=1)
    assert open_samples_of(str(tmp_path / "clips" / "a.gif")).shape == (3, 3, 8, 6)
    with pytest.raises(UserError, match="holds clips, but images are needed"):
        check_modality(samples, "image")
    with video_file(tmp_path / "clips" / "c.gif", 5) as writer:
        for _ in range(4):
            writer.add(Image.fromarray(np.full((8, 6), 9, np.uint8)))
    with pytest.raises(UserError, match=r"a\.gif has 3x8x6, .*c\.gif has 4x8x6"):
        open_samples_of(str(tmp_path / "clips"))
    assert len(read_frames(tmp_path / "clips" / "c.gif")) == 4
    (tmp_path / "clips" / "a.gif").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"a\.gif cannot be read as a video: .*remove it"):
        open_samples_of(str(tmp_path / "clips"))
