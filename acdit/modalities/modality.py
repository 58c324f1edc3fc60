"""Modality: names and import strings of what differs between images, video, text and classification.

This module does not import torch.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Modality:
    """Modality, with everything that is specific to its models.

    Classes and functions are import strings, MODULE:NAME, which `load_object` resolves where they are used,
    so that a value of this class needs no imports. The signatures are those of the modalities in the package.

    Attributes:
        name: Name of one sample, such as `image`.
        samples: Word for the samples of a data set, in messages, such as `images` or `clips`.
        many: Word that follows "a model of" in messages, such as `images` or `video`.
        model: Name of the model in the package that is used by default.
        hub_task: Task of the models on the Hugging Face hub, for their cards; empty if none fits.
        length_key: Key of the section `data` of a recipe that is given only for this modality; None for the
            modality of recipes that give none of these keys.
        axes: Number of axes of a layout.
        patch_axes: Number of last axes that are cut into patches of `layout.patch`.
        block_rule: Description of valid block sizes, for an error about `layout.blocks`.
        values_key: Argument of the network that takes the number of values of a token.
        time_conditioning: Whether a network takes timesteps, unless the recipe says otherwise.
        vocabulary: Name of the number of classes or of token ids in `acdit info`, and the network's argument
            for this number.
        objectives: Values of `training.objective` that choose this modality; none for the modalities that the
            data choose.
        unused_keys: Keys of a recipe that have no meaning for this modality, and must be left out; SECTION.*
            stands for all keys of a section.
        not_encoded: Keys of the section `data` that do not change the output of `acdit encode`.
        single_file: Whether a data source may be one file.
        open_data: Function that opens the data set of a `DataConfig`.
        inspect_data: Function that describes the data of a recipe without reading it, for `acdit plan`.
        noise: Name of the noise process in `acdit.training.objectives.OBJECTIVES` and
            `acdit.diffusion.schedulers.SCHEDULERS`.
        objective: Name of the default objective, among those of the noise process.
        build_network: Function that builds the network of a training run.
        costs: Class that counts the costs of the network of a training run.
        pipeline: Class of the pipeline.
        export: Function that builds the pipeline of a training run.
        preview: Function that writes samples of a training run; empty if there are none.
        save_converted: Function that writes the model of a published checkpoint; empty if there is none.
        network: Name of the network among the components of the pipeline, and its class.
        other_networks: Names of other classes that the network may have.
        facts: Function that lists what `acdit info` prints.
        sample_options: Class of the options of `acdit sample`; empty if there is nothing to sample.
        sample: Function that runs `acdit sample` with these options.
        evaluate_options: Class of the options of `acdit evaluate`.
        evaluate: Function that runs `acdit evaluate` with these options.
    """

    name: str
    samples: str
    many: str
    model: str
    hub_task: str = ""

    length_key: str | None
    axes: int
    patch_axes: int
    block_rule: str
    values_key: Literal["in_channels", "vocab_size"]
    time_conditioning: bool
    vocabulary: tuple[str, str] = ("classes", "num_classes")
    objectives: tuple[str, ...] = ()
    unused_keys: tuple[str, ...] = (
        "classifier.*",
        "data.special_tokens",
        "data.tokenizer",
        "diffusion.masks",
        "diffusion.schedule",
        "diffusion.times",
    )
    not_encoded: tuple[str, ...] = ()
    single_file: bool = False
    network: tuple[str, str] = ("transformer", "ACDiTTransformer")
    other_networks: tuple[str, ...] = ()

    open_data: str
    inspect_data: str
    noise: str
    objective: str
    build_network: str = "acdit.training.build:build_generator"
    costs: str = "acdit.training.costs:GeneratorCosts"
    pipeline: str
    export: str
    preview: str
    save_converted: str = ""
    facts: str = "acdit.cli.info:generator_facts"
    sample_options: str = ""
    sample: str = ""
    evaluate_options: str = ""
    evaluate: str = ""

    def runs(self, command: str) -> bool:
        """Return whether a command, such as `sample`, can use models of this modality."""
        return bool(getattr(self, command))

    def ignores(self, key: str) -> bool:
        """Return whether a key of a recipe has no meaning for this modality."""
        return key in self.unused_keys or f"{key.partition('.')[0]}.*" in self.unused_keys

    @property
    def pipeline_name(self) -> str:
        """Return the name of the pipeline's class, as in model_index.json."""
        return self.pipeline.partition(":")[2]

    @property
    def network_classes(self) -> tuple[str, ...]:
        """Return the names of the classes that the network may have, the usual one first."""
        return self.network[1], *self.other_networks

    def lengths(self, data: object) -> tuple[int, ...]:
        """Return the number of frames of a clip as (F,), of tokens of a text as (L,), and () for images.

        Args:
            data: A `DataConfig`.
        """
        return () if self.length_key is None else (getattr(data, self.length_key),)
