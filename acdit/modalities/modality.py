"""Modality: names and import strings of what differs between images, video and text. Free of torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Modality:
    """A kind of data, with everything that its models need and others do not.

    Classes and functions are import strings, MODULE:NAME, which `load_object` resolves where they are used:
    so a value of this class costs no import. The signatures are those of the three in the package.

    Attributes:
        name: of one sample, such as `image`.
        samples: of a data set, in messages, such as `images` or `clips`.
        many: what a model is "of", in messages, such as `images` or `video`.
        model: name of the model in the package that is taken when none is named.
        length_key: key of the section `data` of a recipe that is given for this modality alone; None for
            the modality of recipes that give none of them.
        axes: of a layout.
        patch_axes: how many of the last axes are cut into patches of `layout.patch`.
        block_rule: how block sizes are written, for an error about `layout.blocks`.
        values_key: argument of the network that takes the number of values of a token.
        time_conditioning: whether a network is told the time, unless the recipe says otherwise.
        guided: whether sampling takes two views of each block, for classifier-free guidance.
        vocabulary: what `acdit info` calls the number of classes or of token ids, and the network's argument.
        unused_keys: keys of a recipe that mean nothing here, and must be left out.
        not_encoded: keys of the section `data` that do not change what `acdit encode` writes.
        single_file: whether a data source may be one file.
        open_data: function that opens the data set of a `DataConfig`.
        inspect_data: function that describes the data of a recipe without reading it, for `acdit plan`.
        noise: name of the noise process in `acdit.training.objectives.OBJECTIVES` and
            `acdit.diffusion.schedulers.SCHEDULERS`.
        objective: name of the usual objective, among those of the noise process.
        pipeline: class of the pipeline.
        export: function that builds the pipeline of a training run.
        preview: function that writes samples of a training run.
        save_converted: function that writes the model of a published checkpoint; none where it is empty.
        sample_options, sample: options of `acdit sample`, and the function that they are given to.
        evaluate_options, evaluate: the same of `acdit evaluate`.
    """

    name: str
    samples: str
    many: str
    model: str

    length_key: str | None
    axes: int
    patch_axes: int
    block_rule: str
    values_key: Literal["in_channels", "vocab_size"]
    time_conditioning: bool
    guided: bool
    vocabulary: tuple[str, str] = ("classes", "num_classes")
    unused_keys: tuple[str, ...] = ()
    not_encoded: tuple[str, ...] = ()
    single_file: bool = False

    open_data: str
    inspect_data: str
    noise: str
    objective: str
    pipeline: str
    export: str
    preview: str
    save_converted: str = ""
    sample_options: str
    sample: str
    evaluate_options: str
    evaluate: str

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline's class, as model_index.json holds it."""
        return self.pipeline.partition(":")[2]

    def lengths(self, data: object) -> tuple[int, ...]:
        """Return the frames of a clip as (F,), the tokens of a text as (L,), and () for images.

        Args:
            data: a `DataConfig`.
        """
        return () if self.length_key is None else (getattr(data, self.length_key),)
