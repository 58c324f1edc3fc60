"""Memory of long videos: what a stream holds does not grow with its length."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STREAM = """
import resource, sys
from tests.pipelines.small import seeded
from tests.pipelines.test_video import build

pipe = build(grid=(3, 16, 16), block=(1, 16, 16))
for piece in pipe.stream(1, num_frames=int(sys.argv[1]), sinks=1, window=2, generator=seeded(3)):
    last = piece
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)  # MiB
"""


@pytest.mark.long
def test_the_peak_of_a_longer_stream_is_the_same():
    def peak(frames: int) -> int:
        command = [sys.executable, "-c", STREAM, str(frames)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert (
        peak(3_000) < peak(300) + 8
    )  # the frames alone, if they were kept, would be 11 MiB, keys and values 177
