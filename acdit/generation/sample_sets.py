"""Sets of samples for evaluators, generated in parts by any number of ranks and joined when complete."""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..pipelines.callbacks import StepFunction
from ..pipelines.image import ACDiTImagePipeline
from ..utils.errors import UserError
from ..utils.files import check_writable, only_writer, whole
from ..utils.ranks import Ranks, launched
from ..utils.settings import differences
from ..utils.untrusted import check_file, damage, parse_json, read_object, reading
from .batches import image_batch
from .set_plans import SetPlan, image_labels, set_settings
from .sizes import require_set_disk
from .step_progress import with_progress

SETTINGS_FILE = "settings.json"
DIGEST_BYTES = 16  # length of the digest at the end of a part
LONGEST_WAIT = timedelta(days=7)  # time that the first rank to finish waits for the last one


class SampleSet:
    """Set of `count` images in an .npz file or a folder of PNGs; image i has the seed `seed + i`.

    Part k holds the images from index k x batch on, as a uint8 array (n, H, W, 3), in a folder beside the
    output. Each part is written atomically, so that generation can be stopped at any moment. The parts do not
    depend on the rank that generates them. A part ends with a digest of its bytes; if it does not fit, the
    part is drawn again.

    Args:
        pipeline: pipeline that generates the images.
        model: folder that the pipeline was loaded from.
        out: path of the .npz file, or of the folder.
        plan: contents of the set.
    """

    def __init__(self, pipeline: ACDiTImagePipeline, model: Path, out: Path, plan: SetPlan):
        self.pipeline, self.out, self.plan = pipeline, out, plan
        self.folder = _parts_folder(out)
        self.batch = plan.sampling.batch
        self.num_parts = -(-plan.count // self.batch)
        self.settings = set_settings(pipeline, model, plan)
        self.labels = image_labels(self.settings, pipeline.transformer.config["num_classes"] or 0)

    def finished(self) -> bool:
        """Return whether the output exists already.

        Raises:
            UserError: if the output or the parts exist and do not belong to this set.
        """
        done = _is_written(self.out)
        if done:
            self._refuse_other(self.out, self._settings_of_output())
        elif any(self.folder.glob("[!.]*")):
            self._refuse_other(self.folder, _read_json(self.folder / SETTINGS_FILE))
        return done

    def draw(self, rank: int = 0, ranks: int = 1) -> None:
        """Generate those of the parts rank, rank + ranks, .. that do not exist yet, or are damaged."""
        mine = range(rank, self.num_parts, ranks)
        missing = [part for part in mine if self._read(part) is None]
        done = len(mine) - len(missing)
        for part, on_step in with_progress(missing, len(mine), done=done, disable=rank > 0):
            pixels = self._pixels(part, on_step)
            with self._kept(self.part(part)):
                if not (self.folder / SETTINGS_FILE).exists():
                    with whole(self.folder / SETTINGS_FILE) as temporary_path:
                        temporary_path.write_text(json.dumps(self.settings, indent=2) + "\n")
                self.write(part, pixels)

    def write(self, part: int, pixels: np.ndarray) -> None:
        """Write the images of a part, and the digest of the bytes before it, which NumPy does not read."""
        written = io.BytesIO()
        np.save(written, pixels)
        content = written.getvalue()
        with whole(self.part(part)) as temporary_path:
            temporary_path.write_bytes(content + _digest(content))

    def _read(self, part: int) -> np.ndarray | None:
        """Return the images of a part; None if it does not exist or is damaged."""
        try:
            written = self.part(part).read_bytes()
        except FileNotFoundError:
            return None
        content, digest = written[:-DIGEST_BYTES], written[-DIGEST_BYTES:]
        return np.load(io.BytesIO(content), allow_pickle=False) if digest == _digest(content) else None

    def join(self) -> None:
        """Join the parts into the output, and remove them.

        Raises:
            UserError: if a part is missing or damaged, or the output cannot be written.
        """
        parts = [self.part(part) for part in range(self.num_parts)]
        missing = [self.part(part).name for part in range(self.num_parts) if self._read(part) is None]
        if missing:
            raise UserError(
                f"{self.folder} lacks {len(missing)} of {len(parts)} parts, such as {missing[0]}, or they "
                "are damaged: run the same command again, with all ranks on one file system"
            )
        with self._kept(self.out), whole(self.out) as temporary_path:
            if self.out.suffix:
                self._write_npz(temporary_path, parts)
            else:
                self._write_pngs(temporary_path, parts)
        self.remove_parts()

    def remove_parts(self) -> None:
        """Remove the parts of this set, if any are left."""
        settings = self.folder / SETTINGS_FILE
        stored = _read_json(settings)
        if isinstance(stored, dict) and not differences(stored, self.settings):
            for file in self.folder.iterdir():
                if file != settings:
                    file.unlink()
            settings.unlink()  # last, since it identifies the set of the other files
            self.folder.rmdir()

    def part(self, index: int) -> Path:
        """Return the path of a part."""
        return self.folder / f"{index:06d}.npy"

    def _pixels(self, part: int, on_step: StepFunction) -> np.ndarray:
        """Generate the images of a part, (n, H, W, 3) with values 0..255."""
        output = image_batch(
            self.pipeline,
            self.labels or [None] * self.plan.count,
            range(self.plan.count)[part * self.batch : (part + 1) * self.batch],
            self.plan.sampling,
            output_type="np",
            block=self.plan.block,
            guidance_rising=self.plan.guidance_rising,
            on_step=on_step,
        )
        pixels = (output.images * 255).round().astype(np.uint8)
        return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))  # a grey channel is repeated

    def _stored(self, index: int) -> np.ndarray:
        """Return the images of a part, mapped into memory.

        Raises:
            UserError: if its file is damaged.
        """
        path, remedy = self.part(index), "remove it and run the same command again"
        check_file(path)
        with reading(path, remedy):
            pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        count = min(self.batch, self.plan.count - index * self.batch)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or (pixels.shape[0], pixels.shape[3]) != (count, 3):
            raise damage(path, f"it holds {pixels.dtype} {list(pixels.shape)}, not {count} images", remedy)
        return pixels

    def _write_npz(self, path: Path, parts: list[Path]) -> None:
        """Write arr_0, the images (count, H, W, 3), and arr_1, their labels.

        Only one part is in memory at a time.
        """
        with zipfile.ZipFile(path, "w") as archive:
            archive.comment = json.dumps(self.settings).encode()
            shape = (self.plan.count, *self._stored(0).shape[1:])
            with archive.open("arr_0.npy", "w", force_zip64=True) as member:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for part in range(len(parts)):
                    member.write(np.ascontiguousarray(self._stored(part)).data)
            if self.labels is not None:
                with archive.open("arr_1.npy", "w") as member:
                    np.lib.format.write_array(member, np.array(self.labels))

    def _write_pngs(self, folder: Path, parts: list[Path]) -> None:
        """Write 000000.png and so on, labels.json and the settings."""
        folder.mkdir()
        names = [f"{image:06d}.png" for image in range(self.plan.count)]
        with ThreadPoolExecutor() as pool:
            for index in range(len(parts)):
                pictures = map(Image.fromarray, self._stored(index))
                files = [folder / name for name in names[index * self.batch : (index + 1) * self.batch]]
                list(pool.map(Image.Image.save, pictures, files))
        if self.labels is not None:
            (folder / "labels.json").write_text(json.dumps(dict(zip(names, self.labels, strict=True))))
        (folder / SETTINGS_FILE).write_text(json.dumps(self.settings, indent=2) + "\n")

    def _settings_of_output(self) -> Any:
        if self.out.is_dir():
            return _read_json(self.out / SETTINGS_FILE)
        try:
            with zipfile.ZipFile(self.out) as archive:
                return parse_json(archive.comment, self.out)
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return None

    def _refuse_other(self, path: Path, stored: Any) -> None:
        """Raise UserError unless the settings found at a path are those of this set."""
        if not isinstance(stored, dict):
            raise UserError(f"{path} exists and is not a set of samples: choose another --out")
        changed = differences(stored, self.settings).values()
        if changed:
            raise UserError(
                f"{path} was generated with other settings: {', '.join(changed)}; use those settings, "
                "choose "
                f"another --out, or remove {path}"
            )

    @contextmanager
    def _kept(self, path: Path) -> Iterator[None]:
        """Raise UserError if `path` cannot be written; the message says that the finished parts are kept."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{path} could not be written: {error.strerror or error}; the samples so far are kept in "
                f"{self.folder}: fix the cause and run the command again"
            ) from error


def require_room(pipeline: ACDiTImagePipeline, out: Path, count: int) -> None:
    """Raise UserError unless what is missing of a set fits on the disk, before anything of its size is made.

    Args:
        pipeline: pipeline that generates the images.
        out: path of the set.
        count: number of images.
    """
    if not _is_written(out):
        written = sum(file.stat().st_size for file in _parts_folder(out).glob("*.npy"))
        require_set_disk(pipeline, out, count, written)


@dataclass(frozen=True)
class DrawnSet:
    """Finished set of samples.

    Attributes:
        seconds: time that the set took; None if it was finished before.
    """

    seconds: float | None


def draw_set(samples: SampleSet) -> DrawnSet | None:
    """Generate a set, or resume it, together with the other ranks that torchrun started.

    Returns:
        The finished set; None on ranks other than the first.

    Raises:
        UserError: if something else exists at the path of the set, or the set cannot be written.
    """
    ranks = launched()
    with only_writer(samples.out, "acdit sample", ranks.main):
        return _draw_set(samples, ranks)


def _draw_set(samples: SampleSet, ranks: Ranks) -> DrawnSet | None:
    check_writable(samples.folder / "any")
    started = time.perf_counter()
    finished = samples.finished()
    if not finished:
        samples.draw(ranks.rank, ranks.world_size)
        # Ranks join only now: a rank that waits for a failed one is ended silently by torchrun's signal.
        with ranks.joined(LONGEST_WAIT):
            ranks.wait()
    if not ranks.main:
        return None
    if finished:
        samples.remove_parts()
        return DrawnSet(None)
    samples.join()
    return DrawnSet(time.perf_counter() - started)


def _parts_folder(out: Path) -> Path:
    return out.with_name(out.name + ".parts")


def _is_written(out: Path) -> bool:
    return out.is_file() or (out.is_dir() and any(out.iterdir()))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _read_json(path: Path) -> Any:
    """Return the object in a file; None if there is no such file, or it is damaged."""
    try:
        return read_object(path)
    except UserError:
        return None
