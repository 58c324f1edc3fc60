"""`acdit info` of a classifier, and cost of sampling of a generator; the rest see test_commands.py."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from acdit.cli.main import main
from acdit.model.generator_counts import generator_counts
from acdit.model.layout import Layout
from tests.pipelines.small import NAMES, build, build_classifier, network, seeded


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, {"classification_heads": "layer 2: mean", "attention": "block-causal", "input": "clean"}),
        ({"attention": "bidirectional"}, {"attention": "bidirectional"}),
        (
            {"layers": (0, 1), "pooling": ("last", "attention"), "queries": 4},
            {"classification_heads": "layer 0: last, layer 1: attention", "layers": 1},
        ),
        ({"timestep": 250.0}, {"input": "noised to timestep 250", "blocks": 1}),
    ],
    ids=["plain", "bidirectional", "probes", "noised"],
)
def test_facts_of_a_classifier(settings, said, tmp_path, capsys):
    pipeline, full = build_classifier(**settings), settings.get("attention") == "bidirectional"
    pipeline.save_pretrained(tmp_path)
    assert main(["info", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    expected = {"layers": 2, "hidden_size": 32, "heads": 2, "classes": 3, "blocks": 4, "sequence_length": 16}
    assert {key: facts[key] for key in expected | said} == expected | said
    assert facts["class_names"] == {str(index): name for index, name in NAMES.items()}
    assert facts["parameters"] == sum(parameter.numel() for parameter in pipeline.classifier.parameters())
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        blocks = torch.empty(1, facts["blocks"], 16 // facts["blocks"], 4)
        layout = Layout((4, 4), (2, 2) if facts["blocks"] == 4 else (4, 4), (2, 2))
        pipeline.classifier.to("meta")(blocks, layout=layout)
    # Calls with a mask count all pairs of blocks. Of 16, block-causal attention needs 10.
    masked = facts["layers"] * 6 * (4 * 32 * 4 * 4) if facts["blocks"] == 4 and not full else 0
    assert facts["forward_FLOPs_per_image"] == counter.get_total_flops() - masked


def test_the_table_of_a_classifier(tmp_path, capsys):
    build_classifier().save_pretrained(tmp_path)
    assert main(["info", str(tmp_path), "--block", "4x4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "classes                   3" in lines and "blocks                    1" in lines
    assert "class names               0 ant, 1 bee, 2 cow" in lines
    assert main(["info", str(tmp_path), "--block", "3x3"]) == 2
    assert "does not tile" in capsys.readouterr().err


def test_the_bytes_of_a_classifier_depend_on_the_precision(tmp_path, capsys):
    build_classifier().save_pretrained(tmp_path)
    stored = []
    for dtype in ("float32", "float16"):
        assert main(["info", str(tmp_path), "--json", "--dtype", dtype]) == 0
        stored.append(json.loads(capsys.readouterr().out)["weight_bytes"])
    assert (
        stored[0]
        == 2 * stored[1]
        == 4 * sum(each.numel() for each in build_classifier().classifier.parameters())
    )


@pytest.mark.parametrize(
    ("classes", "guidance"), [(3, None), (3, 1.0), (None, None)], ids=["guided", "unguided", "no classes"]
)
def test_sampling_is_counted_with_the_branches_that_it_has(classes, guidance, tmp_path, capsys):
    pipeline = build(network(12, num_classes=classes), guidance_scale=guidance)
    pipeline.save_pretrained(tmp_path)
    assert main(["info", str(tmp_path), "--json"]) == 0
    views = set()
    pipeline.transformer.register_forward_pre_hook(lambda _, inputs: views.add(inputs[0].shape[1]))
    pipeline(None if classes is None else 1, generator=seeded(0))
    (branches,) = views
    facts, counts = json.loads(capsys.readouterr().out), generator_counts(pipeline.transformer.config)
    flops = counts.sampling_flops(pipeline.layout, [3] * 4, guided=branches == 2)
    assert facts["sampling_FLOPs_per_image"] == flops
