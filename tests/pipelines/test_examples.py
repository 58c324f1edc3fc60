"""The example in the docstring of every pipeline whose model is in the package runs as it stands."""

import inspect
import re
import textwrap

import pytest

from acdit.modalities.table import MODALITIES
from acdit.pipelines.folders import shipped_models
from acdit.utils.references import load_object


@pytest.mark.parametrize(
    "name", [name for name, modality in MODALITIES.items() if modality.model in shipped_models()]
)
def test_the_example_of_a_pipeline_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(load_object(MODALITIES[name].pipeline)) or ""
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(textwrap.dedent(example), name, "exec"), names)
    assert "pipe" in names
