"""Parts of the page alone, in a browser: the player and the place for a file."""

import pytest

from tests.playground.browser import grey

pytestmark = pytest.mark.long


def test_the_player_keeps_a_bounded_number_of_frames(watched):
    kept = watched.page.evaluate(
        """async () => {
            const { Player } = await import("/static/player.js");
            const player = new Player("frames");
            const counts = [];
            for (let block = 0; block < 500; block += 1) {
                const pictures = [new ImageData(8, 8), new ImageData(8, 8)];
                player.push(await Promise.all(pictures.map((picture) => createImageBitmap(picture))));
                counts.push(player.frames.length);
            }
            player.pause();
            return [Math.max(...counts), player.last];
        }"""
    )
    assert kept == [320, 999]


def test_a_frame_that_is_paused_at_stays_in_view(watched):
    """Also when the player has forgotten it; then it goes on at the oldest that is kept."""
    places, shown, after = watched.page.evaluate(
        """async () => {
            const { Player } = await import("/static/player.js");
            const player = new Player("frames");
            const grey = (shade) => new ImageData(new Uint8ClampedArray(256).fill(shade), 8, 8);
            const frame = (shade) => createImageBitmap(grey(shade));
            const places = [], shown = [];
            const look = () => {
                places.push(player.place.textContent);
                shown.push(player.canvas.toDataURL());
            };
            for (let index = 0; index < 400; index += 1) {
                player.push([await frame(index < 10 ? 255 - index : 100)]);
                if (index === 5) {
                    player.pause();
                    player.at = 4;
                    player.draw();
                    look();
                }
            }
            look();
            player.play();
            await new Promise((resolve) => setTimeout(resolve, 500));
            player.pause();
            return [places, shown, player.at];
        }"""
    )
    assert places == ["Frame 5 of 6", "Frame 5 of 400"] and after >= 80
    assert [grey(url)[0, 0] for url in shown] == [251, 251]


def test_the_last_of_several_files_is_taken(watched):
    taken = watched.page.evaluate(
        """async () => {
            const { Upload } = await import("/static/upload.js");
            const taken = [];
            const note = (words) => taken.push(words);
            const upload = new Upload("File", "image/png", 2 ** 24, note, note);
            const files = [2 ** 23, 10].map((size) => new File([new Uint8Array(size)], `${size}.png`));
            await Promise.all(files.map((file) => upload.take(file)));
            return taken;
        }"""
    )
    assert taken == ["10.png"]
