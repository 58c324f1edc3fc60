"""Pictures of the samples that lie nearest to real data, beside their nearest neighbours there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..media.images import GAP, MIN_SIDE, TITLE_SIZE
from ..utils.errors import UserError
from ..utils.ranks import ALONE, Ranks
from .extraction import read_batches
from .features.extractor import FeatureExtractor
from .samples import Samples, StoredSamples, picked

ROWS, NEIGHBOURS = 8, 3  # samples in a picture, and neighbours of each
CLIP_FRAMES = 3  # frames of a clip that are shown
MARGIN = 12


@dataclass(frozen=True)
class Neighbours:
    """Samples that lie nearest to real data, the nearest first, and their nearest neighbours.

    Attributes:
        features: name of the features of the distances.
        rows: indices of the samples, (R,).
        distances: distances to the neighbours, in ascending order, (R, K).
        indices: indices of the neighbours in the real data, (R, K).
    """

    features: str
    rows: Tensor
    distances: Tensor
    indices: Tensor


def find_neighbours(
    samples: Samples,
    real: Samples,
    extractor: FeatureExtractor,
    *,
    rows: int = ROWS,
    neighbours: int = NEIGHBOURS,
    batch: int = 64,
    ranks: Ranks = ALONE,
) -> Neighbours:
    """Return the samples that lie nearest to real data, by the distance of features, and their neighbours.

    Only the features of the samples and one batch of the real data are in memory at a time. A sample with
    several items of features, such as the frames of a clip, is compared by all of them together. Rank r of R
    ranks searches the neighbours of its samples, the batches r, r + R, ..; all ranks get the same answer.

    Args:
        samples: samples.
        real: real data to search, such as the training data.
        extractor: extractor of the features.
        rows: largest number of samples to return.
        neighbours: largest number of neighbours of each.
        batch: number of items per call of the extractor.
        ranks: processes that share the work.

    Raises:
        UserError: on all ranks, if samples cannot be read, or no features can be computed.
    """
    with ranks.failing_together():
        own = _search(samples, real, extractor, neighbours, batch, ranks)
    of_ranks = [each for each in ranks.gathered(own) if each is not None]
    if not of_ranks:
        raise UserError(f"{samples.name} holds no readable sample")
    numbers, distances, places = map(torch.cat, zip(*of_ranks, strict=True))  # (N,), (N, K), (N, K)
    order = numbers.argsort()
    nearest = order[distances[order, 0].argsort(stable=True)][:rows]
    return Neighbours(extractor.info.name, numbers[nearest], distances[nearest], places[nearest])


def _search(
    samples: Samples, real: Samples, extractor: FeatureExtractor, count: int, batch: int, ranks: Ranks
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the indices (N,) of the samples of a rank, and distances and indices (N, K) of their neighbours.

    None if the rank has no samples.
    """
    numbers, features = [], []
    for indices, part in read_batches(samples, batch, "features of samples", ranks, shown=ranks.main):
        numbers += indices
        features.append(extractor(part).values.flatten(1))
    if not features:
        return None
    queries = torch.cat(features).double()  # (N, F)
    distances = torch.empty(len(queries), 0, dtype=torch.float64)
    places = torch.empty(len(queries), 0, dtype=torch.long)
    for indices, part in read_batches(real, batch, "searching neighbours", shown=ranks.main):
        values = extractor(part).values.flatten(1).double()
        distances = torch.cat((distances, torch.cdist(queries, values)), dim=1)  # (N, K + n)
        places = torch.cat((places, torch.tensor(list(indices)).expand(len(queries), -1)), dim=1)
        distances, order = distances.topk(min(count, distances.shape[1]), largest=False)
        places = places.gather(1, order)
    if not distances.shape[1]:
        raise UserError(f"{real.name} holds no readable sample")
    return torch.tensor(numbers), distances, places


def draw_neighbours(
    found: Neighbours, samples: Samples, real: Samples, batch: int = 64, ranks: Ranks = ALONE
) -> Image.Image:
    """Draw a row for each sample: the sample, and its neighbours with their distances.

    Args:
        found: the neighbours.
        samples: the samples.
        real: the real data that were searched.
        batch: number of items that are read at a time.
        ranks: processes that share the samples as in `find_neighbours`; all draw the same picture.

    Raises:
        UserError: on all ranks, if a sample or a neighbour cannot be read.
    """
    rows, columns = found.indices.shape  # R, K
    drawn = _pictures(picked(samples, found.rows.tolist(), batch, ranks))
    wanted = sorted(set(found.indices.flatten().tolist()))
    chosen = real.taken(wanted) if isinstance(real, StoredSamples) else real  # read only these
    numbers = range(len(wanted)) if chosen is not real else wanted
    with ranks.failing_together():
        others = dict(zip(wanted, _pictures(picked(chosen, numbers, batch)), strict=True))
    width, height = drawn[0].size
    font = ImageFont.load_default(TITLE_SIZE)
    titles = ["sample", "nearest", "2nd nearest", "3rd nearest"]
    titles += [f"{number}th nearest" for number in range(4, columns + 1)]
    captions = [[f"no. {row}", *(f"distance {one:.3g}" for one in line)] for row, line in _lines(found)]
    cell = max(width, *(round(font.getlength(text)) for text in (*titles, *captions[0]))) + MARGIN
    line, top = TITLE_SIZE + 2 * GAP, 2 * (TITLE_SIZE + 2 * GAP)
    frames = " (first, middle and last frame)" if len(samples.shape) == 4 else ""
    heading = f"nearest in {real.name}, by {found.features}{frames}"
    wide = max((columns + 1) * cell + 2 * MARGIN, round(font.getlength(heading)) + 2 * GAP)
    sheet = Image.new("RGB", (wide, top + rows * (height + line)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), heading, fill="black", font=font)
    lefts = [GAP + column * cell + (MARGIN if column else 0) for column in range(columns + 1)]
    for left, title in zip(lefts, titles, strict=False):
        draw.text((left, line + GAP), title, fill="black", font=font)
    rule = lefts[1] - MARGIN
    draw.line((rule, line, rule, sheet.height - GAP), fill="grey", width=1)
    for number in range(rows):
        pictures = [drawn[number], *(others[index] for index in found.indices[number].tolist())]
        y = top + number * (height + line)
        for left, picture, caption in zip(lefts, pictures, captions[number], strict=True):
            sheet.paste(picture, (left, y))
            draw.text((left, y + height + GAP // 2), caption, fill="black", font=font)
    return sheet


def _lines(found: Neighbours) -> Sequence[tuple[int, list[float]]]:
    return list(zip(found.rows.tolist(), found.distances.tolist(), strict=True))


def _pictures(samples: Tensor) -> list[Image.Image]:
    """Convert images (N, C, H, W), or clips as some of their frames side by side, to enlarged pictures."""
    if samples.ndim == 5:
        chosen = torch.linspace(0, samples.shape[2] - 1, min(CLIP_FRAMES, samples.shape[2])).round().long()
        samples = torch.cat(samples[:, :, chosen].unbind(dim=2), dim=-1)  # (N, C, H, frames W)
    pixels = ((samples.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    factor = max(1, MIN_SIDE // samples.shape[2])
    size = (samples.shape[3] * factor, samples.shape[2] * factor)
    return [Image.fromarray(each).resize(size, Image.Resampling.NEAREST) for each in pixels]
