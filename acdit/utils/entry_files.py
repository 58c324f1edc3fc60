"""Small Python files beside saved models, with which diffusers finds the classes of this package.

diffusers executes them only with `trust_remote_code=True`; the loaders of this package never do.
"""

from pathlib import Path

PIPELINE_MODULE = "pipeline"
NETWORK_MODULE = "network"


def write_entry_file(folder: str | Path, module: str, class_name: str) -> None:
    """Write the file MODULE.py into a folder, which imports a public class of this package."""
    lines = [
        '"""Class of the model in this folder, for diffusers. acdit must be installed."""',
        "",
        f"from acdit import {class_name}",
        "",
        f'__all__ = ["{class_name}"]',
    ]
    (Path(folder) / f"{module}.py").write_text("\n".join(lines) + "\n")
