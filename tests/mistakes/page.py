"""Mistakes of the page of `acdit demo`."""

from .kinds import Mutant, mutant

PAGE: list[Mutant] = [
    mutant(
        "a page answers to any name",
        "playground/access.py",
        "if self.hosts is not None and _name_of(host) not in self.hosts:",
        "if False:",
        "playground/test_page_access.py::test_only_names_of_this_machine_are_answered",
    ),
    mutant(
        "requests of other websites are carried out",
        "playground/access.py",
        "_origin_host(origin) != host.lower()",
        "_origin_host(origin) is None",
        "playground/test_page_access.py::test_posts_of_other_pages_are_refused",
    ),
    mutant(
        "a large picture is decoded before its size is checked",
        "playground/pictures.py",
        "_check_size(*image.size)\n            picture = rgb_picture(image)",
        "picture = rgb_picture(image)\n            _check_size(*image.size)",
        "playground/test_page_hostile.py::test_a_huge_picture_is_not_decoded",
    ),
    mutant(
        "a job whose reader has gone runs to its end",
        "playground/app.py",
        "finally:  # also if the browser has closed the connection\n                self.worker.stop(job)",
        "finally:\n                pass",
        "playground/test_page_queue.py::test_a_job_whose_reader_has_gone_is_stopped",
    ),
    mutant(
        "the class of a video changes for blocks that were planned, too, but not afterwards",
        "playground/video.py",
        "self._planned, self._label = [], label",
        "self._planned = [label] * len(self._planned)",
        "playground/test_page_video.py::test_the_class_changes_on_the_way",
    ),
    mutant(
        "the pixels of a frame are counted before it is stretched",
        "media/video_opening.py",
        "_check_pixels(width, height, max_pixels)\n    pixel_format",
        "_check_pixels(frame.width, frame.height, max_pixels)\n    pixel_format",
        "media/test_large_frames.py::test_the_pixels_of_a_stretched_frame_count",
    ),
    mutant(
        "a connection over which no request comes stays open",
        "playground/connections.py",
        "if self._is_silent:",
        "if False:",
        "playground/test_page_connections.py::test_connections_without_a_request_make_room",
    ),
    mutant(
        "connections that are silent keep others out",
        "playground/connections.py",
        "default=self).transport.abort()",
        "default=self)",
        "playground/test_page_connections.py::test_connections_with_a_request_are_not_cut_for_others",
    ),
    mutant(
        "a connection is closed while it is answered",
        "playground/connections.py",
        "if self._is_silent:",
        "if True:",
        "playground/test_page_connections.py::test_an_answer_that_takes_longer_than_a_silence_may_is_not_cut",
    ),
    mutant(
        "a clip whose codec is not known fails as a bug",
        "media/video_opening.py",
        "if stream.codec_context is None:",
        "if False:",
        "playground/test_page_uploads.py::test_a_clip_that_cannot_be_continued",
    ),
    mutant(
        "a command with the character NUL is offered",
        "playground/snippets.py",
        'if any("\\0" in str(value) for value in given.values()):',
        "if False:",
        "playground/test_page_texts.py::test_characters_of_all_sorts_are_kept",
    ),
    mutant(
        "a panic ends the thread of the jobs",
        "playground/jobs.py",
        "except BaseException as error:",
        "except Exception as error:",
        "playground/test_page_failures.py::test_a_panic_is_the_end_of_its_job_alone",
    ),
    mutant(
        "a video without end gives way to nobody",
        "playground/video.py",
        "and job.others_wait():",
        "and not job.others_wait():",
        "playground/test_page_queue.py::test_a_video_without_end_gives_way_to_those_who_wait",
    ),
]
