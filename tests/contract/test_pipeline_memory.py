"""Pipelines whose weights are elsewhere until they compute: on disk, on the meta device, in fewer bits."""

import pytest
import torch
from accelerate import cpu_offload

from tests.contract.trio import PIPELINES, sampled

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", PIPELINES)
def test_weights_on_disk(kind, tmp_path):
    expected, pipeline = sampled(PIPELINES[kind]()), PIPELINES[kind]()
    pipeline.enable_group_offload(CPU, CPU, "leaf_level", offload_to_disk_path=str(tmp_path))
    assert torch.equal(sampled(pipeline), expected)
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", PIPELINES)
def test_weights_on_the_meta_device(kind):
    """The hooks of `enable_sequential_cpu_offload`, which itself demands an accelerator."""
    expected, pipeline = sampled(PIPELINES[kind]()), PIPELINES[kind]()
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            cpu_offload(component, CPU)
    assert pipeline.transformer.device.type == "meta"
    assert torch.equal(sampled(pipeline), expected)
