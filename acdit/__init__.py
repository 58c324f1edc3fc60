"""ACDiT: autoregressive blocks of conditional diffusion transformers (arXiv 2412.07720).

Public names load when first used, so that `import acdit` is quick and has no side effect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import KVCache
    from .diffusion import DiffusionObjective
    from .layout import Layout
    from .masked import MaskedObjective
    from .pipelines.image import ACDiTImagePipeline
    from .pipelines.loading import load_pipeline
    from .pipelines.text import ACDiTTextPipeline
    from .pipelines.video import ACDiTVideoPipeline
    from .sampling import Guidance, generate
    from .training.recipes import load_recipe
    from .transformer import ACDiTTransformer
    from .unmasking import AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler

__version__ = "0.1.0"

__all__ = [
    "ACDiTImagePipeline",
    "ACDiTTextPipeline",
    "ACDiTTransformer",
    "ACDiTVideoPipeline",
    "AncestralScheduler",
    "ConfidenceScheduler",
    "DiffusionObjective",
    "FirstHittingScheduler",
    "Guidance",
    "KVCache",
    "Layout",
    "MaskedObjective",
    "generate",
    "load_pipeline",
    "load_recipe",
]

_HOMES = {
    "ACDiTImagePipeline": "acdit.pipelines.image",
    "ACDiTTextPipeline": "acdit.pipelines.text",
    "ACDiTTransformer": "acdit.transformer",
    "ACDiTVideoPipeline": "acdit.pipelines.video",
    "AncestralScheduler": "acdit.unmasking",
    "ConfidenceScheduler": "acdit.unmasking",
    "DiffusionObjective": "acdit.diffusion",
    "FirstHittingScheduler": "acdit.unmasking",
    "Guidance": "acdit.sampling",
    "KVCache": "acdit.cache",
    "Layout": "acdit.layout",
    "MaskedObjective": "acdit.masked",
    "generate": "acdit.sampling",
    "load_pipeline": "acdit.pipelines.loading",
    "load_recipe": "acdit.training.recipes",
    # diffusers looks up these base classes on the module that model_index.json names
    "DiffusionPipeline": "diffusers",
    "ModelMixin": "diffusers",
    "SchedulerMixin": "diffusers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
