"""ACDiT: autoregressive blocks of conditional diffusion transformers (arXiv 2412.07720).

Public names are imported on first use, so `import acdit` is quick and has no side effects.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diffusion.continuous import DiffusionObjective
    from .diffusion.generate import Guidance, generate
    from .diffusion.masked import MaskedObjective
    from .diffusion.masked_schedulers import AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler
    from .diffusion.ordered_schedulers import FixedOrderScheduler, LowestEntropyScheduler
    from .model.classifier import ACDiTForImageClassification
    from .model.kv_cache import KVCache
    from .model.layout import Layout
    from .model.token_head import CausalTokenDiffusion
    from .model.transformer import ACDiTTransformer
    from .pipelines.classification import ACDiTImageClassificationPipeline
    from .pipelines.image import ACDiTImagePipeline
    from .pipelines.loading import load_pipeline
    from .pipelines.text import ACDiTTextPipeline
    from .pipelines.video import ACDiTVideoPipeline
    from .training.recipes import load_recipe

__version__: str  # from the metadata of the installed package, when first used

__all__ = [
    "ACDiTForImageClassification",
    "ACDiTImageClassificationPipeline",
    "ACDiTImagePipeline",
    "ACDiTTextPipeline",
    "ACDiTTransformer",
    "ACDiTVideoPipeline",
    "AncestralScheduler",
    "CausalTokenDiffusion",
    "ConfidenceScheduler",
    "DiffusionObjective",
    "FirstHittingScheduler",
    "FixedOrderScheduler",
    "Guidance",
    "KVCache",
    "Layout",
    "LowestEntropyScheduler",
    "MaskedObjective",
    "generate",
    "load_pipeline",
    "load_recipe",
]

_HOMES = {
    "ACDiTForImageClassification": "acdit.model.classifier",
    "ACDiTImageClassificationPipeline": "acdit.pipelines.classification",
    "ACDiTImagePipeline": "acdit.pipelines.image",
    "ACDiTTextPipeline": "acdit.pipelines.text",
    "ACDiTTransformer": "acdit.model.transformer",
    "ACDiTVideoPipeline": "acdit.pipelines.video",
    "AncestralScheduler": "acdit.diffusion.masked_schedulers",
    "CausalTokenDiffusion": "acdit.model.token_head",
    "ConfidenceScheduler": "acdit.diffusion.masked_schedulers",
    "DiffusionObjective": "acdit.diffusion.continuous",
    "FirstHittingScheduler": "acdit.diffusion.masked_schedulers",
    "FixedOrderScheduler": "acdit.diffusion.ordered_schedulers",
    "Guidance": "acdit.diffusion.generate",
    "KVCache": "acdit.model.kv_cache",
    "Layout": "acdit.model.layout",
    "LowestEntropyScheduler": "acdit.diffusion.ordered_schedulers",
    "MaskedObjective": "acdit.diffusion.masked",
    "generate": "acdit.diffusion.generate",
    "load_pipeline": "acdit.pipelines.loading",
    "load_recipe": "acdit.training.recipes",
    # diffusers looks up these base classes in the module that model_index.json names
    "DiffusionPipeline": "diffusers",
    "ModelMixin": "diffusers",
    "SchedulerMixin": "diffusers",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = _installed_version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _installed_version() -> str:
    """Return the version that the package was installed as; "0+unknown" for a folder of sources alone."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("acdit")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
