"""Read video files by time: the frames that a player shows, in the geometry in which it shows them."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from itertools import accumulate, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from ..utils.errors import require
from .merged_frames import even_frames
from .video_opening import VideoError, opened_video, upright, video_errors

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

PICTURE_SEQUENCES = ("gif", "apng")  # a duration for every frame and no rate; writers merge equal frames
LEAST_DECODED = 2**20  # pixels that a smaller frame counts as in `max_decoded`


class _SeekFailed(Exception):
    """Exception for a seek that lands after the requested frame, or for a format that cannot seek."""


class VideoReader:
    """Reader of a video file, to be used as a context.

    Frame n is the frame that is shown n intervals after the first frame, so that the rate may vary. The
    interval is that of the mean rate, or for animated pictures, which have a duration for every frame in
    place of a rate, the longest one of which all durations are multiples.

    Args:
        source: bytes or path of the video file.
        max_pixels: maximum number of pixels of a frame; None = FFmpeg's.
        max_decoded: maximum number of pixels that are decoded in all, where each frame counts as 2**20 pixels
            at least; None = any. A file may store very many frames between two that are shown.

    Attributes:
        interval: seconds from one frame to the next.

    Raises:
        VideoError: if the file is no video, or if its first frame cannot be decoded.
    """

    def __init__(
        self, source: bytes | str | Path, max_pixels: int | None = None, max_decoded: int | None = None
    ) -> None:
        self._source, self._max_pixels, self._stack = source, max_pixels, ExitStack()
        self._max_decoded, self._decoded_pixels = max_decoded, 0

    def __enter__(self) -> "VideoReader":
        try:
            with video_errors():
                self._open()
                self.interval = self._interval()
                self._earliest: float | None = None  # time of the first packet, which may not be decodable
                self._decoded = self._frames(watched=True)
                first = next(self._decoded, None)
                if first is None:
                    raise VideoError("holds no frame that can be decoded")
                self._first, self._has_times = first, first[1].time is not None
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def stored(self) -> int:
        """Return the number of stored frames that are shown; one for a picture."""
        return self._container_length if self._container_length is not None else len(self._packets.times)

    @cached_property
    def length(self) -> int:
        """Return the number of frames, from the first one that can be decoded."""
        if self._container_length is not None:
            length = self._container_length
        else:
            length = self._packets.length(self.interval)
        lost = 0.0
        if self._has_times and self._earliest is not None:
            lost = (self._first[0] - self._earliest) / self.interval
        return max(1, length - max(0, round(lost)))

    def reaches(self, frames: int) -> bool:
        """Return whether the file holds the data of its first frames, without decoding them."""
        if self._container_length is None:
            return frames <= self.length  # every packet was read
        with opened_video(self._source, self._max_pixels) as (container, stream), video_errors():
            number, start = 0, None
            for packet in _shown(container, stream):
                number += 1
                if packet.pts is not None and stream.time_base is not None:
                    start = packet.pts if start is None else min(start, packet.pts)
                    number = round(float((packet.pts - start) * stream.time_base) / self.interval) + 1
                if number + 1 >= frames:  # a frame is missing at most, as in `frames`
                    return True
        return False

    def frames(self, numbers: Iterable[int]) -> Iterator[Image.Image]:
        """Yield the frames of ascending numbers. This method can be called once.

        Raises:
            VideoError: if the video ends before one of them, or if a frame cannot be decoded.
        """
        missing = yield from self._selected(iter(numbers), excess=1.5)
        if missing is not None:
            raise VideoError(f"ends before frame {missing}, although its header announces more frames")

    def every_frame(self) -> Iterator[Image.Image]:
        """Yield all frames that can be read. This method can be called once, in place of `frames`.

        Raises:
            VideoError: if a frame cannot be decoded.
        """
        yield from self._selected(iter(range(self.length)) if self._is_sequence else count(), excess=0.5)

    def _selected(self, numbers: Iterator[int], excess: float) -> Generator[Image.Image, None, int | None]:
        """Yield the frames of ascending numbers.

        Args:
            numbers: numbers of the frames.
            excess: number of intervals after the time of the last frame until which that frame is yielded.

        Returns:
            The first number that is not reached, or None.
        """
        number, (start, shown) = next(numbers), self._first
        time = start
        with video_errors():
            if number and self._has_times:
                time, shown = self._seek(start + number * self.interval)
            for time, frame in self._decoded:
                while number * self.interval < time - start - self.interval / 2:
                    yield self._picture(shown)
                    following = next(numbers, None)
                    if following is None:
                        return None
                    number = following
                shown = frame
            end = time - start + excess * self.interval
            if self._is_sequence:  # the last picture too is shown for its own duration
                end = self.length * self.interval
            while number * self.interval < end:
                yield self._picture(shown)
                following = next(numbers, None)
                if following is None:
                    return None
                number = following
        return number

    @property
    def _is_sequence(self) -> bool:
        return self.container.format.name in PICTURE_SEQUENCES

    @cached_property
    def _container_length(self) -> int | None:
        """Return the number of frames that the container states; None if the packets must be counted.

        The header of an MP4 counts the stored frames, but its edit list may show only some of them: it marks
        or leaves out the others in the index. An AVI of variable rate counts the ticks of a clock.
        """
        frames, index = self.stream.frames, self.stream.index_entries
        if not frames or not self.stream.average_rate or self._is_sequence or self._is_sparse:
            return None
        is_mp4 = self.container.format.name.startswith("mov")
        if is_mp4 and (len(index) != frames or any(entry.is_discard for entry in index)):
            return None
        return frames

    @cached_property
    def _is_sparse(self) -> bool:
        """Return whether less than half of the frames that the container counts have data."""
        index, rate = self.stream.index_entries, self.stream.average_rate
        if len(index) < 2 or not rate or not self.stream.time_base:
            return False
        ticks = index[len(index) - 1].timestamp - index[0].timestamp
        return ticks * self.stream.time_base * rate >= 2 * len(index)

    @cached_property
    def _packets(self) -> "_Packets":
        with opened_video(self._source, self._max_pixels) as (container, stream), video_errors():
            packets = [(packet.pts, packet.duration or 0) for packet in _shown(container, stream)]
            unit = float(stream.time_base or 0)
        if not packets:
            raise VideoError("holds no frame")
        times = [None if time is None else time * unit for time, _ in packets]
        return _Packets(times, [duration * unit for _, duration in packets], self._is_sequence)

    def _interval(self) -> float:
        av: Any = require("av", "video")
        rate = self.stream.average_rate
        is_raw = self.container.format.flags & av.format.Flags.no_timestamps.value  # its rate is a guess
        if not rate or self._is_sequence or is_raw or (self.stream.frames and self._is_sparse):
            measured = self._packets.interval()
            if measured is not None:
                return measured
        # the rate that FFmpeg guesses may be the tick rate of the clock
        return 1 / float(rate or self.stream.guessed_rate or 1)

    def _open(self) -> None:
        """Open the file at its start; seeking there fails in formats without an index."""
        self._stack.close()
        self.container, self.stream = self._stack.enter_context(opened_video(self._source, self._max_pixels))

    def _frames(self, watched: bool = False) -> "Iterator[tuple[float, VideoFrame]]":
        """Decode from here on, and yield frames with their times in seconds.

        Frames without timestamps, as in raw H.264 or before the zero of a Matroska file, take an interval
        each, and the times of those after them are shifted.
        """
        av: Any = require("av", "video")
        time, shift = -self.interval, None
        for packet in self.container.demux(self.stream):
            if watched and packet.size and not packet.is_discard and packet.pts is not None:
                packet_time = float(packet.pts * packet.time_base)
                if self._earliest is None or packet_time < self._earliest:
                    self._earliest = packet_time
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                if not watched:
                    raise
                continue  # a recording may begin between key frames
            for frame in frames:
                watched = False
                self._count(frame)
                if frame.time is None:
                    time += self.interval
                else:
                    if shift is None:
                        shift = 0.0 if time < 0 else time + self.interval - frame.time
                    time = frame.time + shift
                yield time, frame

    def _count(self, frame: "VideoFrame") -> None:
        self._decoded_pixels += max(LEAST_DECODED, frame.width * frame.height)
        if self._max_decoded is not None and self._decoded_pixels > self._max_decoded:
            raise VideoError("stores too many frames for those that it shows")

    def _seek(self, moment: float) -> "tuple[float, VideoFrame]":
        """Continue at a frame that is shown at a moment or before it, and return it."""
        try:
            return self._landed(moment)
        except _SeekFailed:
            self._open()
            self._decoded = self._frames()
            return next(self._decoded)

    def _landed(self, moment: float) -> "tuple[float, VideoFrame]":
        """Seek to a moment.

        If a container has no index, or its groups of pictures are open, a seek may land after the moment; it
        is then repeated from an earlier one.
        """
        av: Any = require("av", "video")
        start, distance = self._first[0], 0.0
        while True:
            target = max(start, moment - distance)
            try:
                self.container.seek(int(target / (self.stream.time_base or 1)), stream=self.stream)
                self._decoded = self._frames()
                first = next(self._decoded, None)
            except (av.FFmpegError, OSError) as fault:  # not damage: the file can be read from its start
                raise _SeekFailed from fault
            if first is not None and first[1].time is not None and first[0] - self.interval / 2 <= moment:
                return first
            if target == start:
                raise _SeekFailed
            distance = 2 * distance or 1.0

    def _picture(self, frame: "VideoFrame") -> Image.Image:
        return upright(frame, self.stream.sample_aspect_ratio, self._max_pixels)


class _Packets(NamedTuple):
    """Packets of the frames that a video shows.

    Attributes:
        times: time in seconds at which each frame is shown, if known.
        durations: stated duration of each frame.
        is_sequence: whether the file is a sequence of pictures, each with its duration.
    """

    times: list[float | None]
    durations: list[float]
    is_sequence: bool

    def length(self, interval: float) -> int:
        """Return the number of frames at a rate."""
        span = self._span()
        return len(self.times) if span is None else round(span / interval) + (not self.is_sequence)

    def interval(self) -> float | None:
        """Return the mean seconds between frames; None if it is not known."""
        span = self._span()
        if not span:
            return None
        if not self.is_sequence:
            return span / (len(self.times) - 1)
        return span / even_frames(list(accumulate(self.durations)))

    def _span(self) -> float | None:
        """Return the time from the first frame to the last, or of a sequence to the end of the last."""
        if self.is_sequence:
            return sum(self.durations)
        known = [time for time in self.times if time is not None]
        if len(known) < 2 or len(known) < len(self.times):
            return None
        return max(known) - min(known)


def _shown(container: "InputContainer", stream: "VideoStream") -> Iterator[Any]:
    """Yield the packets of the frames that are shown; an edit list marks others."""
    return (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
