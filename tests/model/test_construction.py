"""Networks that several threads build and load at once are those of one thread."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.loading import load_pipeline
from tests.pipelines.small import build, network
from tests.tiny import given


@pytest.fixture
def hasty():
    """Threads that take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_threads_build_and_load_networks_with_weights(tmp_path):
    before = nn.Module.register_parameter, nn.init.normal_
    build(network(4)).save_pretrained(tmp_path)
    expected = load_pipeline(tmp_path).transformer.state_dict()
    try:
        with ThreadPoolExecutor(4) as pool:
            loads = [pool.submit(load_pipeline, tmp_path) for _ in range(12)]
            builds = [pool.submit(ACDiTTransformer, 4, (4, 4), 2, 32, 2, num_classes=50) for _ in range(12)]
            loaded, built = ([each.result() for each in some] for some in (loads, builds))
        assert (nn.Module.register_parameter, nn.init.normal_) == before
    finally:  # the tests that follow need them
        nn.Module.register_parameter, nn.init.normal_ = before
    for pipeline in loaded:
        weights = pipeline.transformer.state_dict()
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    for model in built:
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
        table = given(model.y_embedder).embedding_table.weight
        assert float(table.std()) == pytest.approx(0.02, rel=0.1)  # as DiT initialises it
