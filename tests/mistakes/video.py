"""Mistakes of video: the cache that rolls, noise of frames, clips of moving digits."""

from .kinds import mutant

VIDEO = [
    mutant(
        "the rolling cache keeps one block too few",
        "cache.py",
        "max(0, self.num_held - self.sinks - self.window)",
        "max(0, self.num_held - self.sinks - self.window + 1)",
        "test_rolling_cache.py::test_without_sinks_it_is_the_windowed_forward",
    ),
    mutant(
        "sinks stay where they were",
        "cache.py",
        "turned = self._turned(self._first_keys[layer], self.num_gone * self.layout.block[0])",
        "turned = self._first_keys[layer]",
        "test_rolling_cache.py::test_sinks_stand_directly_before_the_window",
    ),
    mutant(
        "sinks move by blocks, not by their tokens",
        "cache.py",
        "self.num_gone * self.layout.block[0]",
        "self.num_gone",
        "test_rolling_cache.py::test_sinks_stand_directly_before_the_window",
    ),
    mutant(
        "sinks beside views that see them elsewhere",
        "cache.py",
        "return self.num_blocks + new_blocks <= self.sinks + self.window",
        "return True",
        "test_rolling_cache.py::test_generate_rolls",
    ),
    mutant(
        "a rolled cache forgets what has gone",
        "transformer.py",
        "held = [block - gone for block in blocks]",
        "held = [min(block, cache.num_held) if cache else block for block in blocks]",
        "test_rolling_cache.py::test_without_sinks_it_is_the_windowed_forward",
    ),
    mutant(
        "rotary places count from the first block held",
        "transformer.py",
        "torch.tensor(places, device=self.device) - first",
        "torch.tensor(places, device=self.device) * 0",
        "test_rolling_cache.py::test_without_sinks_it_is_the_windowed_forward",
    ),
    mutant(
        "a long prefix in one call",
        "sampling.py",
        "while blocks and not cache.takes_beside_views(len(blocks)):",
        "while len(blocks) > 1:",
        "test_rolling_cache.py::test_generate_rolls",
    ),
    mutant(
        "context noise on what is returned too",
        "sampling.py",
        "pending = _noisy(sample[:, None], context_noise, generators)",
        "pending = sample.add_(_noisy(0 * sample, context_noise, generators))[:, None]",
        "pipelines/test_video.py::test_context_noise_and_sinks_act",
    ),
    mutant(
        "noise of a frame depends on where its block begins",
        "sampling.py",
        "frames = range(slab * self.frames, (slab + 1) * self.frames)",
        "frames = range(slab, slab + self.frames)",
        "test_sampling.py::test_noise_of_a_frame_is_the_same_in_any_block_and_length",
    ),
    mutant(
        "a window longer than in training",
        "pipelines/video.py",
        "window = max(1, trained - 1 - sinks)",
        "window = trained - sinks",
        "pipelines/test_video.py::test_a_longer_video_begins_alike_and_a_stream_is_the_call",
    ),
    mutant(
        "a digit turns round a pixel late",
        "data/moving_digits.py",
        "REACH - (straight - REACH).abs()",
        "(REACH + 1 - (straight - REACH).abs()).clamp(max=REACH)",
        "data/test_moving_digits.py::test_it_bounces_as_light_at_a_mirror",
    ),
    mutant(
        "extrapolation that bounces",
        "evaluation/rollouts.py",
        "last + steps * (last - before)",
        "corners[prefix:]",
        "evaluation/test_rollouts.py::test_the_truth_is_perfect",
    ),
    mutant(
        "phones' videos lie down",
        "videos.py",
        "frame.to_image().rotate(frame.rotation, expand=True)",
        "frame.to_image().rotate(-frame.rotation, expand=True)",
        "test_videos.py::test_rotated_files_are_read_upright",
    ),
]
